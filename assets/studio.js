// Functions of the page that need no server. Gradio runs this script once, when the page loads.
// All listeners are on the document, because Gradio replaces the elements inside it.
() => {
  const byId = id => document.getElementById(id);
  const products = () => byId('products')?.querySelector('[data-names]').dataset.names.split(' ') ?? [];
  const tabOf = element => products().find(name => element?.id.startsWith(`${name}-`));

  // Moves the line between unguided and guided, from its slider or on the picture.
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
    if (!pair || event.button || event.target.closest('button')) return;
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

  // The filmstrip: its slider, its small pictures, and the list of pictures.
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

  // Live mode: releasing a control starts a run. Browsers send `change` on release, with mouse,
  // finger or key. The run waits for the control's own requests to the server, such as the default
  // strength of a method.
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
    if (!part || element.closest('.live-row, .canvas-tools, input[type=file]')) return undefined;
    return tabOf(part.closest('.workspace')?.querySelector('[id$="-draw"]'));
  };

  document.addEventListener('change', event => press(controlled(event.target)));
  document.addEventListener('click', event => {
    const button = event.target.closest?.('.wish-button, .seed-row button, .reset-button, .chip button');
    if (!button) return;
    const seed = button.closest('.seed-row')?.querySelector('input');
    const before = seed?.value; // the server sends the new seed
    press(controlled(button), () => !seed || seed.value !== before);
  });
  // Gradio's lists choose on `mousedown` or Enter, and send no `change` event.
  document.addEventListener('mousedown', event => {
    if (event.target.closest?.('[role=option]')) press(controlled(event.target));
  }, true);
  document.addEventListener('keydown', event => {
    if (event.key === 'Enter' && event.target.matches?.('[role=combobox]'))
      press(controlled(event.target));
  }, true);

  // A saved picture can be dropped anywhere except where other pictures are.
  const files = event => [...(event.dataTransfer?.types ?? [])].includes('Files');
  const elsewhere = event => event.target.closest?.('[data-testid=image], .image-container, .easel');

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

  // Picture controls: only kinds that can be read are offered, and a file of another kind, or one
  // that is too large, is refused below the control; what the control holds stays.
  const KINDS = ['.png', '.jpg', '.jpeg', '.webp', '.gif', '.bmp', '.tif', '.tiff', '.avif'];
  const MAX_UPLOAD = 10 * 2 ** 20;
  const fill = (id, values) =>
    (byId(id)?.textContent ?? '').trim().replace(/\{(\w+)\}/g, (_, key) => values[key]);

  const refusal = (control, file) => {
    const name = (control.querySelector('label')?.textContent ?? '').trim();
    const isKnown = KINDS.some(kind => file.name.toLowerCase().endsWith(kind));
    if (!isKnown || (file.type && !file.type.startsWith('image/')))
      return fill('upload-kind', {name, got: file.name});
    const size = Math.ceil(file.size / 2 ** 20 * 10) / 10;
    return file.size > MAX_UPLOAD ? fill('upload-size', {name, got: size}) : '';
  };

  const sayRefusal = (control, text) => {
    control.parentElement.querySelectorAll('.upload-refused').forEach(old => old.remove());
    if (!text) return;
    const line = document.createElement('p');
    line.className = 'upload-refused';
    line.setAttribute('role', 'alert');
    line.textContent = text;
    control.after(line);
  };

  const takeFile = (event, file) => {
    const control = event.target.closest?.('.picture-upload');
    if (!control || !file) return;
    const text = refusal(control, file);
    sayRefusal(control, text);
    if (!text) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  };

  document.addEventListener('click', event => {
    if (event.target.matches?.('.picture-upload input[type=file]'))
      event.target.accept = KINDS.join(',');
  }, true);
  document.addEventListener('change', event => takeFile(event, event.target.files?.[0]), true);
  document.addEventListener('drop', event => takeFile(event, event.dataTransfer?.files?.[0]), true);
  document.addEventListener('paste', event => takeFile(event, event.clipboardData?.files?.[0]), true);

  const copy = async text => {
    if (navigator.clipboard && window.isSecureContext)
      return navigator.clipboard.writeText(text).then(() => true, () => false);
    const area = document.createElement('textarea'); // `navigator.clipboard` needs https
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  };

  // While a run waits, its status says how many runs are before it. Gradio's own line, which the
  // style sheet hides, has the numbers: "queue: 2/3 | 1.5/12.0s".
  const QUEUE = /(\d+)\/\d+\s*\|\s*([\d.]+)(?:\/([\d.]+))?s/;
  const waits = {}; // of parts whose run waits: its numbers, what its line said and says now
  const stopped = new Set(); // parts whose run was stopped, until Gradio knows
  const queued = new WeakSet(); // trackers that waited when last looked at

  const template = (name, values = {}) =>
    (byId(`queue-${name}`)?.textContent ?? '').trim().replace(/\{(\w+)\}/g, (_, key) => values[key]);

  const waitingSentence = ([, place, passed, total]) => {
    const runs = Number(place); // the one that is being drawn counts
    const left = Number(total) - Number(passed); // NaN if Gradio does not know the total
    const seconds = left > 20 ? 5 * Math.round(left / 5) : Math.ceil(left);
    const sentence = runs === 1 ? template('next') : template('many', {runs});
    return sentence + (seconds > 0 ? template('about', {seconds}) : '');
  };

  const sayWaiting = (part, line, found) => {
    const wait = waits[part.id];
    const before = wait?.sentence === line.textContent ? wait.before : line.textContent;
    const sentence = waitingSentence(found);
    waits[part.id] = {found, before, sentence};
    line.dataset.place = found[1];
    if (line.textContent !== sentence) line.textContent = sentence;
  };

  const stopWaiting = part => {
    const line = part.querySelector('.status');
    const wait = waits[part.id];
    if (wait && line?.textContent === wait.sentence) {
      delete line.dataset.place;
      line.textContent = wait.before;
    }
    delete waits[part.id];
  };

  const lookAtQueue = () => {
    for (const part of document.querySelectorAll('[id$="-status"]')) {
      const tracker = part.querySelector('[data-testid=status-tracker]');
      const line = part.querySelector('.status');
      if (!tracker || !line) continue;
      const found = QUEUE.exec(tracker.querySelector('.progress-text')?.textContent ?? '');
      const wait = waits[part.id];
      if (!found) stopped.delete(part.id);
      if (stopped.has(part.id)) continue;
      if (found && queued.has(tracker)) sayWaiting(part, line, found);
      else if (wait && tracker.querySelector('.error')) stopWaiting(part);
      // Another language hides Gradio's numbers and changes the line; so does a run that begins.
      else if (wait && line.textContent !== wait.sentence && !line.matches('.translated'))
        delete waits[part.id];
      else if (wait) sayWaiting(part, line, wait.found);
      // A run that does not wait is in the queue for a moment, too.
      if (found) queued.add(tracker);
      else queued.delete(tracker);
    }
  };
  document.addEventListener('click', event => {
    const button = event.target.closest?.('[id$="-stop"], [id$="-draw"]');
    const part = button && byId(button.id.replace(/stop$|draw$/, 'status'));
    if (!part) return;
    stopped.delete(part.id);
    if (!button.id.endsWith('stop')) return;
    stopWaiting(part);
    stopped.add(part.id);
  });
  setInterval(lookAtQueue, 250);

  // Numbers every press of Paint and Stop, so that the server knows the last one.
  const pages = {};
  const newPage = () =>
    [...crypto.getRandomValues(new Uint8Array(8))].map(n => n.toString(16).padStart(2, '0')).join('');
  const pressed = tab => {
    const page = (pages[tab] ??= {name: newPage(), presses: 0});
    page.presses += 1;
    return `${page.name}:${page.presses}`;
  };

  // Ends the runs of a page that is closed. Gradio does this itself, except for a run whose first
  // response has not yet reached the page.
  window.addEventListener('pagehide', () => {
    const {root = '', api_prefix: prefix = '/gradio_api'} = window.gradio_config ?? {};
    for (const tab of Object.keys(pages)) {
      const body = new Blob([JSON.stringify({data: [pressed(tab)]})], {type: 'application/json'});
      navigator.sendBeacon(`${root}${prefix}/run/leave`, body);
    }
  });

  // Chips: once one is taken away, the focus goes to the one after it, or else to the button that
  // draws, and not back to the top of the page.
  document.addEventListener('click', event => {
    const button = event.target.closest?.('.chip button');
    const place = button?.closest('[id$="-chips"]');
    if (!place) return;
    const chips = () => [...(byId(place.id)?.querySelectorAll('.chip button') ?? [])];
    const at = chips().indexOf(button);
    const observer = new MutationObserver(() => {
      const left = chips();
      if (left.some(other => other.dataset.name === button.dataset.name)) return;
      observer.disconnect();
      const next = left[Math.min(at, left.length - 1)];
      (next ?? byId(place.id.replace(/chips$/, 'draw')))?.focus({preventScroll: true});
    });
    observer.observe(document.body, {childList: true, subtree: true});
    setTimeout(() => observer.disconnect(), 5000);
  });

  // A picture as a small one for its chip, in a data address; "!" if it cannot be drawn, or if it
  // is the text of the canvas, of which nothing is sent before a run.
  const thumbnail = async picture => {
    if (typeof picture === 'string') return picture && '!';
    if (!picture?.url) return '';
    try {
      const image = new Image();
      image.src = picture.url;
      await image.decode();
      const canvas = document.createElement('canvas');
      const scale = Math.min(1, 48 / Math.max(image.naturalWidth, image.naturalHeight));
      canvas.width = Math.max(1, Math.round(scale * image.naturalWidth));
      canvas.height = Math.max(1, Math.round(scale * image.naturalHeight));
      canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
      return canvas.toDataURL('image/png');
    } catch {
      return '!';
    }
  };

  window.studio = {
    press,
    pressed,
    thumbnail,

    // Copies the link to a run, and ticks the button for a moment.
    async copyLink(query, button) {
      const address = `${location.origin}${location.pathname}?${query}`;
      if (!(await copy(address))) return;
      const shown = document.querySelector(button);
      shown?.classList.add('ticked');
      setTimeout(() => shown?.classList.remove('ticked'), 2000);
    },

    // Sets the language of the document, for screen readers and fonts.
    speak(language) {
      document.documentElement.lang = language === 'zh' ? 'zh-CN' : language;
    },
  };
  window.studio.speak(document.documentElement.lang || 'en');
}
