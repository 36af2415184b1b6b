// Lets the page's address follow the set-up of a comparison once the visitor has changed it, and hides the link that was
// copied as soon as it is of another set-up than this one.
// setUp: from values to the fields of a link (address.js). isTouched: a person did something just now.
(setUp, writeAddress, isTouched, message, ...values) => {
  const fields = setUp(...values);
  window.compareTouched ||= isTouched;
  if (window.compareTouched) writeAddress(isTouched ? {...fields, tab: ''} : fields, /^(left|right)_/);
  const isOutdated = window.linkedSetUp && window.linkedSetUp !== JSON.stringify([message, fields]);
  if (isOutdated) window.linkedSetUp = '';
  return {__type__: 'update', ...(isOutdated ? {visible: false} : {})};
}
