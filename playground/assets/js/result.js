// The result of the comparison before stays hidden from a press until the new one is there: so it does not jump when the
// panes above it grow or shrink.
const tab = () => element.closest('#compare');
watch('value', () => requestAnimationFrame(() => requestAnimationFrame(() => tab()?.classList.remove('gp-waits'))));
