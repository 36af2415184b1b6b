// Brings back the text that was being written in a box when its tab last had this page, and from then on keeps each
// change in the same moment: Gradio's own event comes later, and a page that is left before it would lose the text.
// keep, kept: the functions of keep.js and kept.js. name: in the tab's storage. id: of the box's component.
(keep, kept, name, id) => {
  const box = `#${id} textarea`;
  document.addEventListener('input', event => { if (event.target.matches?.(box)) keep(name, event.target.value); });
  const written = document.querySelector(box)?.value;
  if (written) keep(name, written);
  return written || kept([name])[0];
}
