'use strict';
// What changes is fetched as the page itself, made on the server: parts marked data-live are replaced by their newer selves.
// data-live="blocks" is renewed at each block, data-live="timer" also every few seconds. Without this script, reload.
(() => {
  const EVERY_MS = 4000;
  const NEWS_MS = 8000;
  const parts = () => [...document.querySelectorAll('[data-live]')];

  // "/" goes to the search, as in other places.
  document.addEventListener('keydown', (event) => {
    const typing = /^(input|textarea|select)$/i.test(event.target.tagName);
    if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      document.getElementById('q').focus();
    }
  });
  if (parts().length === 0) return;

  let busy = false;
  let again = false;
  let away = false;
  const renew = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: 'text/html' } });
      const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
      if (document.getElementById('notice') && !fresh.getElementById('notice')) { location.reload(); return; }
      parts().forEach((part) => replace(part, fresh.getElementById(part.id)));
      if (away) { away = false; tell(''); }
    } catch { away = true; news.textContent = 'No answer: what is shown may be old'; } finally {
      busy = false;
      if (again) { again = false; setTimeout(renew, 250); }
    }
  };

  const replace = (part, fresh) => {
    if (!fresh || part.innerHTML === fresh.innerHTML) return;
    const known = new Set([...part.querySelectorAll('tr[id]')].map((row) => row.id));
    const link = part.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
    part.replaceChildren(...fresh.childNodes);
    part.querySelectorAll('tr[id]').forEach((row) => {
      if (known.size > 0 && !known.has(row.id)) row.classList.add('new');
    });
    // Whoever was on a link by keyboard stays on it.
    if (link) part.querySelector(`a[href="${CSS.escape(link)}"]`)?.focus({ preventScroll: true });
  };

  const news = document.getElementById('news');
  let clearing = 0;
  const tell = (text) => {
    news.textContent = text;
    clearTimeout(clearing);
    clearing = setTimeout(() => { news.textContent = ''; }, NEWS_MS);
  };

  const visible = () => document.visibilityState === 'visible';
  setInterval(() => { if (visible() && document.querySelector('[data-live="timer"]')) renew(); }, EVERY_MS);
  document.addEventListener('visibilitychange', () => { if (visible()) renew(); });

  const light = document.getElementById('link');
  if (!light) return;
  light.hidden = false;
  // The browser comes back by itself with the id of the last event, and misses nothing.
  const source = new EventSource('/events?only=blocks');
  const say = (state, text) => { light.dataset.state = state; light.textContent = text; };
  source.onopen = () => say('on', 'live');
  source.onerror = () => say('off', 'reconnecting');
  source.addEventListener('connected', (event) => {
    tell(`Block ${JSON.parse(event.data).height.toLocaleString('en')} was mined`);
    renew();
  });
  source.addEventListener('disconnected', (event) => {
    tell(`Reorg: block ${JSON.parse(event.data).height.toLocaleString('en')} left the chain`);
    renew();
  });
  window.addEventListener('pagehide', () => source.close());
  window.addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); });
})();
