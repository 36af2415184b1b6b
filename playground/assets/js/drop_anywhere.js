// A model file dropped anywhere on the open Models tab goes into its box for files; the page calls it once, when it opens.
() => {
  const box = () => {
    const input = document.querySelector('#models-drop input[type=file]');
    return input && input.closest('[role=tabpanel]')?.offsetParent !== null ? input : null;
  };
  const carriesFiles = event => [...(event.dataTransfer?.types ?? [])].includes('Files');
  const mark = shown => document.body.classList.toggle('gp-dropping', shown);
  document.addEventListener('dragover', event => {
    if (!carriesFiles(event) || !box()) return;
    event.preventDefault();
    mark(true);
  });
  document.addEventListener('dragleave', event => { if (!event.relatedTarget) mark(false); });
  document.addEventListener('drop', event => {
    mark(false);
    const input = box();
    if (!carriesFiles(event) || !input || event.target.closest?.('#models-drop')) return;
    event.preventDefault();
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event('change', {bubbles: true}));
  });
}
