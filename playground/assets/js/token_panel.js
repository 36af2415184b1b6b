// Fills the panel of both top fives (answer_tokens.html) from the token that has the mouse or the focus.
// Only one token is in the tab order; the arrow keys go from token to token.
const row = (item, side) => {
  const line = document.createElement('li');
  const word = document.createElement('b');
  word.textContent = item[0];
  const bar = document.createElement('span');
  bar.className = 'gp-share-track';
  const fill = document.createElement('span');
  fill.className = 'gp-share-' + side;
  fill.style.width = (100 * item[1]).toFixed(1) + '%';
  bar.append(fill);
  const share = document.createElement('span');
  share.textContent = item[2];
  line.append(word, bar, share);
  return line;
};
const show = token => {
  const panel = element.querySelector('.gp-top-five');
  if (!panel) return;
  const facts = JSON.parse(token.dataset.top);
  panel.querySelector('.gp-top-word').textContent = facts.said;
  for (const side of ['a', 'b'])
    panel.querySelector('.gp-top-' + side).replaceChildren(...facts[side].map(item => row(item, side)));
  element.querySelectorAll('.gp-token[aria-current]').forEach(other => other.removeAttribute('aria-current'));
  token.setAttribute('aria-current', 'true');
};
const tokenOf = event => event.target.closest?.('.gp-token');
element.addEventListener('mouseover', event => { const token = tokenOf(event); if (token) show(token); });
element.addEventListener('click', event => { const token = tokenOf(event); if (token) token.focus(); });
element.addEventListener('focusin', event => {
  const token = tokenOf(event);
  if (!token) return;
  element.querySelectorAll('.gp-token[tabindex="0"]').forEach(other => other.setAttribute('tabindex', '-1'));
  token.setAttribute('tabindex', '0');
  show(token);
});
element.addEventListener('keydown', event => {
  const token = tokenOf(event);
  const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10};
  if (!token || !(event.key in steps || event.key === 'Home' || event.key === 'End')) return;
  const all = [...element.querySelectorAll('.gp-token')];
  const place = all.indexOf(token) + (steps[event.key] || 0);
  const goal = event.key === 'Home' ? 0 : event.key === 'End' ? all.length - 1 : place;
  all[Math.min(Math.max(goal, 0), all.length - 1)].focus();
  event.preventDefault();
});
