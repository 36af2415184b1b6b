// The slider of the Learn tab. The tab is drawn anew for the model at hand whenever it is opened: the slider stays where
// it was put, and keeps the focus.
let place = null;
let isHeld = false;
const slider = () => element.querySelector('input[data-steps]');
const show = () => {
  const bits = slider().dataset.steps.split(' ')[slider().value];
  slider().closest('.gp-bits').dataset.bits = bits;
  slider().setAttribute('aria-valuetext', `${bits} bits`);
};
element.addEventListener('input', event => {
  if (event.target !== slider()) return;
  place = event.target.value;
  show();
});
element.addEventListener('focusin', event => { isHeld = event.target === slider(); });
element.addEventListener('focusout', event => { if (event.relatedTarget) isHeld = false; });
watch(['rows'], () => {
  if (!slider() || place === null) return;
  slider().value = place;
  show();
  if (isHeld && document.activeElement === document.body) slider().focus({preventScroll: true});
});
