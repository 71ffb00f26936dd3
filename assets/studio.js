// What the page does by itself, without asking the server. Run once, when the page is there.
// Everything listens on the document, since Gradio draws and redraws what is inside.
() => {
  const tabOf = element => /^(color|text|digits)-/.exec(element?.id ?? '')?.[1];
  const byId = id => document.getElementById(id);

  // The line between unguided and guided: moved by its slider, or on the picture itself.
  const cut = (tab, share) => byId(`${tab}-result`)?.style.setProperty('--cut', `${share}%`);

  const setSlider = (slider, value) => {
    const range = slider?.querySelector('input[type=range]');
    if (!range) return;
    range.value = value;
    range.dispatchEvent(new Event('input', {bubbles: true}));
  };

  const cutAt = (pair, clientX) => {
    const box = pair.getBoundingClientRect();
    const share = Math.round(100 * Math.min(1, Math.max(0, (clientX - box.left) / box.width)));
    const tab = tabOf(pair.closest('[id$="-result"]'));
    setSlider(byId(`${tab}-cut`), share);
    cut(tab, share);
  };

  document.addEventListener('pointerdown', event => {
    const pair = event.target.closest?.('.pair');
    if (!pair || event.button) return;
    event.preventDefault();
    cutAt(pair, event.clientX);
    const move = moved => cutAt(pair, moved.clientX);
    const end = () => {
      document.removeEventListener('pointermove', move);
      document.removeEventListener('pointerup', end);
      document.removeEventListener('pointercancel', end);
    };
    document.addEventListener('pointermove', move);
    document.addEventListener('pointerup', end);
    document.addEventListener('pointercancel', end);
  });

  // The filmstrip: its slider, its small pictures, and the choice of one of several pictures.
  const lookAt = (inside, moment) => {
    const label = JSON.parse(inside.dataset.labels)[moment];
    const range = inside.querySelector('.scrub input');
    inside.style.setProperty('--at', moment);
    for (const frame of inside.querySelectorAll('.frame'))
      frame.setAttribute('aria-current', Number(frame.dataset.at) === moment);
    range.value = moment;
    range.setAttribute('aria-valuetext', label);
    inside.querySelector('.scrub output').textContent = label;
  };

  document.addEventListener('input', event => {
    const slider = event.target.closest('[id$="-cut"]');
    if (slider) cut(tabOf(slider), event.target.value);
    const inside = event.target.closest('.inside');
    if (!inside) return;
    if (event.target.matches('select')) {
      for (const part of inside.querySelectorAll('.of-picture'))
        part.hidden = part.dataset.picture !== event.target.value;
    } else lookAt(inside, Number(event.target.value));
  });

  document.addEventListener('click', event => {
    const frame = event.target.closest?.('.frame');
    if (frame) lookAt(frame.closest('.inside'), Number(frame.dataset.at));
  });

  // Live: a control that is let go draws again. `change` is what browsers call letting go, be it
  // with mouse, finger or key. What the control itself asked of the server, such as the strength
  // that belongs to a method, is waited for.
  let asked = 0;
  const plainFetch = window.fetch;
  window.fetch = async (...request) => {
    const counts = String(request[0]?.url ?? request[0]).includes('/run/') ? 1 : 0;
    asked += counts;
    try {
      return await plainFetch(...request);
    } finally {
      asked -= counts;
    }
  };

  const due = {};
  const press = (tab, ready = () => true) => {
    if (!byId(`${tab}-live`)?.querySelector('input')?.checked) return;
    const once = () => {
      if (asked || !ready()) due[tab] = setTimeout(once, 30);
      else byId(`${tab}-draw`)?.click();
    };
    clearTimeout(due[tab]);
    due[tab] = setTimeout(once, 60);
  };

  const controlled = element => {
    const part = element.closest?.('.wish, .controls');
    if (!part || element.closest('.live-row, input[type=file]')) return undefined;
    return tabOf(part.closest('.workspace')?.querySelector('[id$="-draw"]'));
  };

  document.addEventListener('change', event => press(controlled(event.target)));
  document.addEventListener('click', event => {
    const button = event.target.closest?.('.wish-button, .seed-row button, .reset-button');
    if (!button) return;
    const seed = button.closest('.seed-row')?.querySelector('input');
    const before = seed?.value; // another one comes from the server
    press(controlled(button), () => !seed || seed.value !== before);
  });
  // Lists are chosen from when the mouse goes down, or with Enter, and say nothing of it.
  document.addEventListener('mousedown', event => {
    if (event.target.closest?.('[role=option]')) press(controlled(event.target));
  }, true);
  document.addEventListener('keydown', event => {
    if (event.key === 'Enter' && event.target.matches?.('[role=combobox]'))
      press(controlled(event.target));
  }, true);

  // A saved picture may be dropped anywhere but where pictures are uploaded for something else.
  const files = event => [...(event.dataTransfer?.types ?? [])].includes('Files');
  const elsewhere = event => event.target.closest?.('[data-testid=image], .image-container');

  document.addEventListener('dragover', event => {
    if (!files(event) || elsewhere(event)) return;
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  for (const name of ['dragleave', 'drop', 'dragend'])
    document.addEventListener(name, () => document.body.classList.remove('dropping'));
  document.addEventListener('drop', event => {
    if (!files(event) || elsewhere(event)) return;
    event.preventDefault();
    const input = document.querySelector('#open-picture input[type=file], input#open-picture') ??
      byId('open-picture')?.parentElement?.querySelector('input[type=file]');
    if (!input || !event.dataTransfer.files.length) return;
    const one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    input.files = one.files;
    input.dispatchEvent(new Event('change', {bubbles: true}));
  });

  const copy = async text => {
    if (navigator.clipboard && window.isSecureContext)
      return navigator.clipboard.writeText(text).then(() => true, () => false);
    const area = document.createElement('textarea'); // pages without https have no clipboard
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  };

  // Every press of Paint and Stop has a number, so that the server knows which came last.
  const pages = {};
  const newPage = () =>
    [...crypto.getRandomValues(new Uint8Array(8))].map(n => n.toString(16).padStart(2, '0')).join('');
  const pressed = tab => {
    const page = (pages[tab] ??= {name: newPage(), presses: 0});
    page.presses += 1;
    return `${page.name}:${page.presses}`;
  };

  // The server learns by itself that a page has gone, unless that was before the page heard of its
  // run: such a one would go on for nobody.
  window.addEventListener('pagehide', () => {
    const {root = '', api_prefix: prefix = '/gradio_api'} = window.gradio_config ?? {};
    for (const tab of Object.keys(pages)) {
      const body = new Blob([JSON.stringify({data: [pressed(tab)]})], {type: 'application/json'});
      navigator.sendBeacon(`${root}${prefix}/run/leave`, body);
    }
  });

  window.studio = {
    pressed,

    // Copies the address of a run, and ticks the button for a moment.
    async copyLink(query, button) {
      const address = `${location.origin}${location.pathname}?${query}`;
      if (!(await copy(address))) return;
      const shown = document.querySelector(button);
      shown?.classList.add('ticked');
      setTimeout(() => shown?.classList.remove('ticked'), 2000);
    },

    // What screen readers and fonts need to know.
    speak(language) {
      document.documentElement.lang = language === 'zh' ? 'zh-CN' : language;
    },
  };
  window.studio.speak(document.documentElement.lang || 'en');
}
