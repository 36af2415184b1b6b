// The bit dial: two handles, A and B, on the levels that the server drew. `value` is {"a": level, "b": level} as JSON.
// With one handle, above a chat, it is {"level": level}. A press on a level that can be
// downloaded puts its reference beside them, as "download", and is a `select`.
//
// A handle moves by mouse and touch (press a level, or drag the handle) and by arrow keys, Home and End. The handle that
// was used last moves to a pressed level: B, until A is taken. What moves shows at once; `input` comes when the handle
// has rested for a moment, so that a way along the dial asks nothing of the levels in between. From level to level the
// panes keep the height of their longest answer, so that nothing below them moves, and so does what is cleared, until it
// is brought back or the next question frees it. What Clear and Undo take away goes with the press, not some frames after
// what comes in its place (compare.css).
const REST_MILLISECONDS = 350;
const read = text => { try { return JSON.parse(text) || {}; } catch { return {}; } };
const sides = Object.keys(read(props.value));
const otherOf = side => sides.find(one => one !== side);
let active = sides.at(-1);
let dragged = null;
let resting = 0;
let focused = null;  // the handle that has the focus, for after a redraw

const stops = () => [...element.querySelectorAll('.gp-stop')];
const isLocked = () => !!element.closest('.gp-compare')?.querySelector('[data-blind]');
const placeOf = level => stops().findIndex(stop => stop.dataset.level === level);

const draw = () => {
  const value = read(props.value);
  const all = stops();
  element.querySelectorAll('.gp-handle').forEach(handle => handle.remove());
  all.forEach(stop => stop.classList.remove(...sides.map(side => 'gp-stop-' + side)));
  for (const side of sides) {
    const place = placeOf(value[side]);
    if (place < 0) continue;
    const stop = all[place];
    stop.classList.add('gp-stop-' + side);
    const handle = document.createElement('span');
    handle.className = `gp-handle gp-tag gp-tag-${side}`;
    handle.dataset.side = side;
    const isAlone = sides.length === 1;
    handle.textContent = isAlone ? '' : side.toUpperCase();
    const facts = {
      role: 'slider', tabindex: 0, 'aria-label': isAlone ? 'Level' : `Level of ${side.toUpperCase()}`, 'aria-valuemin': 1,
      'aria-valuemax': all.length, 'aria-valuenow': place + 1, 'aria-valuetext': stop.dataset.text,
    };
    for (const [name, fact] of Object.entries(facts)) handle.setAttribute(name, fact);
    stop.querySelector('.gp-stop-handle').append(handle);
    if (focused === side) handle.focus({preventScroll: true});
  }
};

const tab = () => element.closest('#compare');  // null above a chat
const kept = () => tab() ? [tab(), ...tab().querySelectorAll('#compare-question, #compare-panes')] : [];
const keepHeights = () => {
  const heights = kept().map(part => part.getBoundingClientRect().height);
  kept().forEach((part, place) => { part.style.minHeight = heights[place] + 'px'; });
};
// What stands below the answers stays where it is while the next ones are written.
const freeHeights = () => {
  kept().forEach(part => { part.style.minHeight = ''; });
  if (tab()) tab().style.minHeight = `max(100dvh - 72px, ${tab().getBoundingClientRect().height}px)`;
};
const asks = '#compare-send, #compare-examples button, #compare-run-recorded, #compare-ballot .gp-ballot-next';

const tell = rest => {
  clearTimeout(resting);
  resting = setTimeout(() => trigger('input'), rest);
};

const move = (side, place, rest = REST_MILLISECONDS) => {
  const all = stops(), value = read(props.value), other = value[otherOf(side)];
  if (isLocked() || place < 0 || place >= all.length) return;
  const level = all[place].dataset.level;
  if (level === other || level === value[side]) return;
  active = side;
  tab()?.classList.add('gp-waits', ...(tab().querySelector('.gp-pane-recorded, .gp-question-none') ? [] : ['gp-asked']));
  keepHeights();
  props.value = JSON.stringify({...value, [side]: level});
  draw();
  tell(rest);
};

// One step further, over the other handle if it stands there.
const step = (side, by) => {
  const all = stops(), value = read(props.value);
  const other = placeOf(value[otherOf(side)]);
  let place = placeOf(value[side]) + by;
  if (place === other) place += by;
  if (place >= 0 && place < all.length) move(side, place);
};

const stopAt = (x, y) => document.elementsFromPoint(x, y).map(part => part.closest?.('.gp-stop')).find(stop => stop && element.contains(stop));

element.addEventListener('pointerdown', event => {
  const handle = event.target.closest('.gp-handle');
  if (!handle || isLocked()) return;
  dragged = active = handle.dataset.side;
  handle.focus({preventScroll: true});
  event.preventDefault();
});
document.addEventListener('pointermove', event => {
  if (!dragged) return;
  const stop = stopAt(event.clientX, event.clientY);
  if (stop) { focused = dragged; move(dragged, stops().indexOf(stop)); }
});
document.addEventListener('pointerup', () => { dragged = null; });
document.addEventListener('pointercancel', () => { dragged = null; });
element.addEventListener('click', event => {
  const away = event.target.closest('[data-download]');
  if (away) {
    props.value = JSON.stringify({...read(props.value), download: away.dataset.download});
    return trigger('select');
  }
  const stop = event.target.closest('.gp-stop');
  if (stop && !event.target.closest('.gp-handle')) { focused = active; move(active, stops().indexOf(stop)); }
});
element.addEventListener('focusin', event => { focused = event.target.dataset?.side ?? null; if (focused) active = focused; });
element.addEventListener('focusout', event => { if (event.relatedTarget) focused = null; });
element.addEventListener('keydown', event => {
  const side = event.target.dataset?.side;
  if (!side) return;
  const by = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
  const count = stops().length, end = {Home: 0, End: count - 1}[event.key];
  if (by === undefined && end === undefined) return;
  event.preventDefault();
  focused = side;
  if (by !== undefined) return step(side, by);
  const other = placeOf(read(props.value)[otherOf(side)]);
  move(side, end === other ? end + (end ? -1 : 1) : end);
});
document.addEventListener('gp-move-b', event => { if (sides.includes('b')) move('b', placeOf(event.detail), 0); });  // further.js
document.addEventListener('click', event => {
  if (event.target.closest?.(asks)) freeHeights();
  if (event.target.closest?.('#compare-clear')) { keepHeights(); tab()?.classList.add('gp-clears'); }
  if (event.target.closest?.('#compare-undo')) tab()?.classList.add('gp-undoes');
});
document.addEventListener('keydown', event => { if (event.key === 'Enter' && event.target.closest?.('#compare-message')) freeHeights(); });
draw();
watch(['value', 'rows'], draw);
