// Buttons in rows drawn by the server: a press puts the button's data-value into `value`.
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-value]');
  if (!button) return;
  props.value = button.dataset.value;
  trigger('input');
});
