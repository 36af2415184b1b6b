// On a phone one pane shows at a time: the two buttons choose which, and have the names of both levels.
const panes = () => document.querySelector('#compare-panes');
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-side]');
  if (!button) return;
  element.querySelectorAll('button').forEach(other => other.setAttribute('aria-pressed', other === button));
  panes()?.classList.toggle('gp-shows-b', button.dataset.side === 'b');
});
const nameButtons = () => element.querySelectorAll('button[data-side]').forEach(button => {
  const name = panes()?.querySelector(`.gp-pane-${button.dataset.side} .gp-pane-head b`)?.textContent ?? '';
  const place = button.querySelector('.gp-switch-name');
  if (place.textContent !== name) place.textContent = name;
});
const watchPanes = () => {
  if (!panes()) return requestAnimationFrame(watchPanes);
  new MutationObserver(nameButtons).observe(panes(), {childList: true, subtree: true, characterData: true});
  nameButtons();
};
watchPanes();
