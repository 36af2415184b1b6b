// Radio buttons drawn by the server: their markup is in the prop `rows`, the chosen one's value in `value`.
//
// A redraw makes new elements. What a person had unfolded is unfolded again, the focus goes back to where it was,
// and the chosen button is checked again, because the attribute `checked` no longer moves a radio button that a person has used. The chosen row is scrolled into the list's view: to its middle, or no further than
// needed while the person is in the list.
let heldValue = null;  // of the radio button that has the focus
let heldPlace = -1;  // of what has the focus, among all that can have it
let isUnfolded = false;

element.addEventListener('toggle', event => { if (event.target.isConnected) isUnfolded = event.target.open; }, true);
const stops = () => [...element.querySelectorAll('input, button, summary')];
const release = () => { heldValue = null; heldPlace = -1; };
element.addEventListener('focusin', event => {
  heldValue = event.target.type === 'radio' ? event.target.value : null;
  heldPlace = stops().indexOf(event.target);
});
element.addEventListener('focusout', event => { if (event.relatedTarget) release(); });
document.addEventListener('pointerdown', event => { if (!element.contains(event.target)) release(); });

const radios = () => [...element.querySelectorAll('input[type=radio]')];

const scrollToChosen = () => {
  const list = element.querySelector('.gp-scroll');
  const row = list?.querySelector('input:checked')?.closest('label');
  if (!row) return;
  if (list.contains(document.activeElement)) {
    const listBox = list.getBoundingClientRect();
    const rowBox = row.getBoundingClientRect();
    list.scrollTop += Math.max(0, rowBox.bottom - listBox.bottom) - Math.max(0, listBox.top - rowBox.top);
  } else {
    list.scrollTop = Math.max(0, row.offsetTop - list.offsetTop - (list.clientHeight - row.offsetHeight) / 2);
  }
};

const restore = () => {
  const fold = element.querySelector('details');
  if (fold && isUnfolded) fold.open = true;
  if (heldPlace >= 0 && document.activeElement === document.body) {
    const same = heldValue === null ? stops()[heldPlace] : radios().find(radio => radio.value === heldValue);
    same?.focus({preventScroll: true});
  }
  radios().forEach(radio => { radio.checked = radio.value === props.value; });
  requestAnimationFrame(scrollToChosen);  // where the browser lays the page out anyway, once for all lists
};

element.addEventListener('change', event => {
  if (event.target.type !== 'radio') return;
  props.value = event.target.value;
  trigger('input');
});
restore();
watch(['value', 'rows'], restore);
