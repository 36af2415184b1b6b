// What a person presses before the page's own scripts are there; it stands in the head of the page's file.
//
// The tab that was pressed last stays open, whatever the page opens by itself as it begins (page.js): `window.pressedTab`
// is its name, "" where something else was pressed after it. A "Why?" waits for its script (learn.js) in `window.pressedWhy`.
addEventListener('click', event => {
  if (!event.isTrusted || !event.target.closest) return;
  window.pressedTab = event.target.closest('#tabs [role=tab]')?.textContent.trim() || '';
  window.pressedWhy = event.target.closest('[data-why]');
}, true);
addEventListener('keydown', event => { if (event.target.closest?.('[role=tab]')) window.pressedTab = ''; }, true);
