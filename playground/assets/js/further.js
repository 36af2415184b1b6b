// What other levels answered to the same question, beside A and B on a wide screen. A press on a button moves B to its
// level, which the dial does (dial.js).
//
// They have their room from the press that asks the first question, and after a reload from the start: so the panes have
// their width before an answer comes, and nothing moves by itself. Two answers that are voted on blind have all the room.
const asks = '#compare-send, #compare-examples button, #compare-run-recorded, #compare-ballot .gp-ballot-next';
const tab = () => element.closest('#compare');
const openRoom = isBlind => {
  tab()?.classList.toggle('gp-asked', !isBlind);
  if (isBlind) element.querySelector('.gp-further-open')?.classList.remove('gp-further-open');
};
const isBlind = asking => asking?.matches('.gp-ballot-next') || !!tab()?.querySelector('#compare-blind input')?.checked;
const hasQuestion = () => !!tab()?.querySelector('#compare-message textarea')?.value.trim();
let kind = '';  // of the button that has the focus, for after a redraw

try {
  if (sessionStorage.getItem('gguf-playground-comparison')) openRoom(false);
} catch { /* the storage is off */ }
document.addEventListener('click', event => {
  const asking = event.target.closest?.(asks);
  if (asking && (asking.id !== 'compare-send' || hasQuestion())) openRoom(isBlind(asking));
}, true);  // before the box is emptied
document.addEventListener('keydown', event => {
  if (event.key === 'Enter' && event.target.closest?.('#compare-message') && hasQuestion()) openRoom(isBlind());
}, true);

element.addEventListener('click', event => {
  const button = event.target.closest('button[data-level]:not([aria-disabled])');
  if (button) document.dispatchEvent(new CustomEvent('gp-move-b', {detail: button.dataset.level}));
});
element.addEventListener('focusin', event => { kind = event.target.dataset?.kind ?? ''; });
element.addEventListener('focusout', event => { if (event.relatedTarget) kind = ''; });
watch(['rows'], () => {
  if (!kind || document.activeElement !== document.body) return;
  const next = element.querySelector(`button[data-kind="${kind}"]`) ?? element.querySelector('button');
  (next ?? tab()?.querySelector('.gp-handle.gp-tag-b'))?.focus({preventScroll: true});
});
