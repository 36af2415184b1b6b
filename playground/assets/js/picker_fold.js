// The one line that the picker is on a phone: a press unfolds the picker, and a redraw leaves it as it was.
let isOpen = false;
const show = () => element.querySelector('.gp-fold')?.setAttribute('aria-expanded', String(isOpen));
element.addEventListener('click', event => {
  if (!event.target.closest('.gp-fold')) return;
  isOpen = !isOpen;
  show();
});
watch('value', show);
