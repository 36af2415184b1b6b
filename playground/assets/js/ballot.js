// What a ballot needs beyond vote_sheet.js: a second press counts for nothing before the page has answered the first, and
// once a ballot shows, its keys vote at once, unless somebody is writing.
element.addEventListener('click', event => { if (props.value) event.stopImmediatePropagation(); }, true);
const takeFocus = () => {
  const held = document.activeElement, box = document.querySelector('#compare-message textarea');
  if (held === document.body || (held === box && !box.value))
    element.querySelector('.gp-ballot-sheet')?.focus({preventScroll: true});
};
takeFocus();
watch(['rows'], takeFocus);
