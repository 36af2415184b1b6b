// The "Why?" beside a figure opens the section of Learn that explains it.
() => {
  document.addEventListener('click', event => {
    const why = event.target.closest?.('[data-why]');
    if (!why) return;
    event.preventDefault();
    const tab = [...document.querySelectorAll('#tabs button[role=tab]')].find(button => button.textContent.trim() === 'Learn');
    tab?.click();
    const place = `learn-${why.dataset.why}`;
    const show = () => {
      const section = document.getElementById(place);
      if (!section?.offsetParent || document.activeElement === section) return;
      section.setAttribute('tabindex', '-1');
      section.focus({preventScroll: true});
      section.scrollIntoView({block: 'start'});
    };
    // The tab draws the model at hand when it opens, which takes the focus away again.
    const watch = new MutationObserver(() => {
      if ([document.body, why].includes(document.activeElement)) show();
    });
    watch.observe(document.querySelector('#tabs'), {childList: true, subtree: true, attributes: true});
    const stop = () => watch.disconnect();
    for (const sign of ['pointerdown', 'keydown']) document.addEventListener(sign, stop, {once: true});
    setTimeout(stop, 10000);
    show();
  });
  if (window.pressedWhy?.isConnected) window.pressedWhy.click();
}
