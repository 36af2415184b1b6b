// The page's address says that a link leads to Chat, where it has a set-up of Chat; another name than `chat` is Compare's.
(writeAddress, tab) => {
  if (!window.chatIsOpen || !window.compareIsOpen || !new URLSearchParams(location.search).has('chat')) return;
  writeAddress({tab: tab === 'chat' ? tab : ''}, /^tab$/);
}
