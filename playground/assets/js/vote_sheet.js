// Buttons drawn by the server, of which those with a data-key are also pressed by that key while they are on the page.
const press = button => {
  props.value = button.dataset.value;
  trigger('input');
};

element.addEventListener('click', event => {
  const button = event.target.closest('button[data-value]');
  if (button) press(button);
});

const onKey = event => {
  if (!element.isConnected) return document.removeEventListener('keydown', onKey);
  if (event.defaultPrevented || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.('input, textarea, select, [contenteditable=true]')) return;
  const key = event.key?.toLowerCase();
  const button = [...element.querySelectorAll('button[data-key]')].find(each => each.dataset.key === key);
  if (!button || button.offsetParent === null) return;
  event.preventDefault();
  button.click();
};
document.addEventListener('keydown', onKey);
