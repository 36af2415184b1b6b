// One pane of the comparison. A press on a button with a data-value puts it into `value`; a token under the mouse, the
// focus or a finger shows the likeliest next tokens of both models in a small box beside it.
// Only one token of a pane is in the tab order; the arrow keys go from token to token, Escape closes the box.
let box = null;
const close = () => {
  box?.remove();
  box = null;
  element.querySelectorAll('.gp-token[aria-current]').forEach(token => token.removeAttribute('aria-current'));
};
const part = (tag, name, text) => {
  const made = document.createElement(tag);
  made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
};
const list = (facts, side, title) => {
  const column = part('div', 'gp-top-side');
  const head = part('p', 'gp-top-title');
  head.append(part('span', `gp-tag gp-tag-${side}`, side.toUpperCase()), part('span', '', title));
  column.append(head);
  const rows = part('ol', `gp-top-${side}`);
  for (const [word, share, text] of facts) {
    const row = part('li', '');
    const track = part('span', 'gp-share-track'), fill = part('span', `gp-share-${side}`);
    fill.style.width = (100 * share).toFixed(1) + '%';
    track.append(fill);
    row.append(part('b', '', word), track, part('span', '', text));
    rows.append(row);
  }
  column.append(facts.length ? rows : part('p', 'gp-top-none', 'did not read this text'));
  return column;
};
const show = token => {
  if (token.hasAttribute('aria-current')) return;
  close();
  const facts = JSON.parse(token.dataset.top);
  box = part('div', 'gp-top-five');
  box.setAttribute('role', 'status');
  box.append(part('p', 'gp-top-word', facts.said));
  const columns = part('div', 'gp-top-sides');
  for (const side of ['a', 'b']) columns.append(list(facts[side], side, facts.names[side === 'a' ? 0 : 1]));
  box.append(columns);
  const pane = element.querySelector('.gp-pane');
  pane.append(box);
  token.setAttribute('aria-current', 'true');
  const at = token.getBoundingClientRect(), around = pane.getBoundingClientRect();
  const left = Math.min(Math.max(at.left - around.left - 20, 0), Math.max(0, around.width - box.offsetWidth));
  const below = at.bottom - around.top + 6;
  const isRoom = at.bottom + box.offsetHeight + 12 < innerHeight || at.top < box.offsetHeight + 12;
  box.style.left = left + 'px';
  box.style.top = (isRoom ? below : at.top - around.top - box.offsetHeight - 6) + 'px';
};
const tokenOf = event => event.target.closest?.('.gp-token');
element.addEventListener('mouseover', event => { const token = tokenOf(event); if (token) show(token); });
element.addEventListener('mouseleave', () => { if (!element.contains(document.activeElement)) close(); });
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-value]');
  if (button) {
    props.value = button.dataset.value;
    trigger('input');
    return;
  }
  const token = tokenOf(event);
  if (token) token.focus({preventScroll: true});
  else if (!event.target.closest('.gp-top-five')) close();
});
element.addEventListener('focusin', event => {
  const token = tokenOf(event);
  if (!token) return;
  element.querySelectorAll('.gp-token[tabindex="0"]').forEach(other => other.setAttribute('tabindex', '-1'));
  token.setAttribute('tabindex', '0');
  show(token);
});
element.addEventListener('focusout', event => { if (!element.contains(event.relatedTarget)) close(); });
element.addEventListener('keydown', event => {
  if (event.key === 'Escape') return close();
  const token = tokenOf(event);
  const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10};
  if (!token || !(event.key in steps || event.key === 'Home' || event.key === 'End')) return;
  const all = [...element.querySelectorAll('.gp-token')];
  const place = all.indexOf(token) + (steps[event.key] || 0);
  const goal = event.key === 'Home' ? 0 : event.key === 'End' ? all.length - 1 : place;
  all[Math.min(Math.max(goal, 0), all.length - 1)].focus();
  event.preventDefault();
});
watch(['rows'], () => { box = null; });
