// The slider of the Learn tab, and the "Why?" beside a figure, which opens the section that explains it.
() => {
  document.addEventListener('input', event => {
    const slider = event.target.closest?.('input[data-steps]');
    if (!slider) return;
    const bits = slider.dataset.steps.split(' ')[slider.value];
    slider.closest('.gp-bits').dataset.bits = bits;
    slider.setAttribute('aria-valuetext', `${bits} bits`);
  });
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
}
