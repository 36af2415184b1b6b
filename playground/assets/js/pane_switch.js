// On a phone one pane shows at a time: the two buttons choose which.
const panes = () => document.querySelector('#compare-panes');
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-side]');
  if (!button) return;
  element.querySelectorAll('button').forEach(other => other.setAttribute('aria-pressed', other === button));
  panes()?.classList.toggle('gp-shows-b', button.dataset.side === 'b');
});
