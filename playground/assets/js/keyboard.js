// What the keyboard needs beyond what Gradio 6.31 does; the page calls it once, when it opens.
//
// The first Tab shows a link to the main input of the open tab. Among the tabs, arrow keys, Home and End open the one they
// reach, and Tab leads into its panel. Each accordion says whether it is open. A list of choices closes when Tab
// leaves its box.
() => {
  const MAIN = {
    compare: '#compare-message textarea', chat: '#chat-message textarea', measure: '#measure-model input',
    fit: '#fit-model input', models: '#models-search :is(input, textarea)', learn: '.gp-learn :is(h2, h3)',
  };
  const tabs = () => [...document.querySelectorAll('#tabs [role=tab]:not([disabled])')];
  const isOpen = tab => tab.getAttribute('aria-selected') === 'true';

  const mark = part => {
    if (part.nodeType !== Node.ELEMENT_NODE) return;
    const found = part.matches('[role=tab], button.label-wrap') ? [part] : part.querySelectorAll('[role=tab], button.label-wrap');
    for (const one of found) {
      if (one.matches('[role=tab]')) one.tabIndex = isOpen(one) ? 0 : -1;
      else one.setAttribute('aria-expanded', one.classList.contains('open'));
    }
  };
  new MutationObserver(changes => changes.forEach(change => {
    if (change.type === 'childList') change.addedNodes.forEach(mark);
    else if (change.target.matches('[role=tab], button.label-wrap')) mark(change.target);
  })).observe(document.body, {childList: true, subtree: true, attributeFilter: ['class', 'aria-selected']});
  mark(document.body);

  document.addEventListener('click', event => {
    if (!event.target.closest?.('.gp-skip')) return;
    event.preventDefault();
    const main = document.querySelector(MAIN[tabs().find(isOpen)?.dataset.tabId] || MAIN.compare);
    if (main && !main.matches('input, textarea')) main.tabIndex = -1;
    main?.focus();
  });

  // Gradio 6.31 opens the list for each key a moment later, so also for the Tab that has left the box and closed it.
  document.addEventListener('keydown', event => {
    if (['Tab', 'Shift'].includes(event.key) && event.target.matches?.('input[aria-controls][aria-expanded]')) event.stopPropagation();
  }, true);

  document.addEventListener('keydown', event => {
    if (event.altKey || event.ctrlKey || event.metaKey || !event.target.matches?.('#tabs [role=tab]')) return;
    const all = tabs(), step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    const place = step ? (all.indexOf(event.target) + step + all.length) % all.length : {Home: 0, End: all.length - 1}[event.key];
    if (place === undefined) return;
    event.preventDefault();
    all[place].focus();
    all[place].click();
  });
}
