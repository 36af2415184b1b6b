// What the messages and the boxes of the page need beyond what Gradio 6.31 does; the page calls it once, when it opens.
//
// Each paragraph of a message, and each box to type in, runs in the direction of its first strong letter (`dir=auto`).
// After a press on a button that then hides or cannot be used, the focus goes on to the box for the next message.
// A page that comes back opens on the tab where it was, unless its address says what to open. Escape in the message box leaves a
// message as it was before it was edited; anywhere it stops what is being written or loaded. A model's name that is
// longer than its box is shown whole by the mouse and the focus.
() => {
  // Gradio 6.31 handles a message of the server in a timer while the page is visible, and at once while it is hidden. So
  // messages would overtake each other when a person goes to another tab, and each holds only what has changed since the
  // one before: words out of order, or "Cannot set properties of undefined". Here each is handled at once.
  const startTimer = window.setTimeout;
  window.setTimeout = (work, delay, ...values) => {
    if (delay !== 0 || !values[0]?.msg || !values[0].event_id) return startTimer(work, delay, ...values);
    work(...values);
    return 0;
  };

  const TAB = 'gguf-playground-tab';
  const nameOf = tab => tab?.textContent.trim();
  const find = name => [...document.querySelectorAll('#tabs [role=tab]')].find(tab => nameOf(tab) === name);
  try {
    const last = sessionStorage.getItem(TAB);
    const isOwn = location.search === sessionStorage.getItem('gguf-playground-address');
    const isPlain = isOwn || [...new URLSearchParams(location.search).keys()].every(key => key.startsWith('__'));
    if (last && isPlain && !window.pressedTab) find(last)?.click();
    new MutationObserver(() => {
      const open = nameOf(document.querySelector('#tabs [role=tab][aria-selected=true]'));
      if (open) sessionStorage.setItem(TAB, open);
    }).observe(document.querySelector('#tabs'), {subtree: true, attributeFilter: ['aria-selected']});
  } catch { /* the storage is off */ }
  // A link opens its tab a moment after the page is there; a person may have pressed another one meanwhile.
  const keepPressed = () => {
    if (window.chatIsOpen && window.compareIsOpen) return keeping.disconnect();
    const pressed = window.pressedTab && find(window.pressedTab);
    if (pressed && pressed.getAttribute('aria-selected') !== 'true') pressed.click();
  };
  const keeping = new MutationObserver(keepPressed);
  keeping.observe(document.querySelector('#tabs'), {subtree: true, attributeFilter: ['aria-selected']});

  const paragraphs = '.gp-log .prose :is(p, ul, ol, blockquote, h1, h2, h3, h4, h5, h6, table, th, td),'
    + ' .gp-typed';
  const boxes = 'textarea, input:is([type=text], :not([type]))';
  const turn = part => {
    if (part.nodeType !== Node.ELEMENT_NODE) return;
    const selector = paragraphs + ', ' + boxes;
    if (part.matches(selector)) part.dir = 'auto';
    part.querySelectorAll(selector).forEach(found => { found.dir = 'auto'; });
  };
  new MutationObserver(changes => changes.forEach(change => change.addedNodes.forEach(turn)))
    .observe(document.body, {childList: true, subtree: true});
  turn(document.body);

  const showWhole = event => {
    if (event.target.matches?.('.gp-picker input[role=listbox], .gp-picker input[role=combobox], .gp-picker input:not([type])'))
      event.target.title = event.target.value;
  };
  document.addEventListener('mouseover', showWhole);
  document.addEventListener('focusin', showWhole);

  // What comes below the messages takes its room from them: who reads their end still sees it.
  const log = document.querySelector('#chat-log .bubble-wrap');
  let height = log?.clientHeight;
  if (log) new ResizeObserver(() => {
    if (log.scrollHeight - log.scrollTop - height < 12) log.scrollTop = log.scrollHeight;
    height = log.clientHeight;
  }).observe(log);

  const shown = element => element && element.offsetParent !== null;
  document.addEventListener('keydown', event => {
    if (event.key !== 'Escape' || event.defaultPrevented || event.target.getAttribute?.('aria-expanded') === 'true') return;
    const buttons = ['#chat-stop', '#chat-cancel-load', '#compare-stop', '#skill-grid-stop'];
    if (event.target.closest?.('#chat-message')) buttons.unshift('#chat-cancel-edit');
    [...buttons.map(id => document.querySelector(id))].find(shown)?.click();
  });

  const leavers = [
    [':is(#chat-send, #chat-stop, #chat-edit, #chat-cancel-edit, #chat-clear, #chat-undo, #chat-regenerate, #chat-continue),'
      + ' .gp-starters button', 'chat'],
    [':is(#compare-send, #compare-stop, #compare-clear, #compare-undo), #compare-examples button, .gp-pane-foot button', 'compare'],
  ];
  document.addEventListener('click', event => {
    const tab = leavers.find(([buttons]) => event.target.closest?.(buttons))?.[1];
    if (!tab) return;
    // On a phone the focus of a box would raise the keyboard over the reply.
    const log = document.querySelector(`#${tab}-log, #${tab}-log-left`);
    log?.setAttribute('tabindex', '-1');
    const goal = matchMedia('(pointer: coarse)').matches ? log : document.querySelector(`#${tab}-message textarea`);
    goal?.focus({preventScroll: true});
  });
}
