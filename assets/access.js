// What keys, screen readers and small screens need, besides what Gradio does for them. Runs once,
// when the page loads; Gradio makes and remakes the elements, so an observer looks after them.
() => {
  const byId = id => document.getElementById(id);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const set = (element, name, value) => {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  };
  const idOf = (element, id) => (element.id ||= id);
  const template = (name, values) =>
    (byId(`access-${name}`)?.textContent ?? '').trim().replace(/\{(\w+)\}/g, (_, key) => values[key]);

  // Radio buttons: Gradio gives each a name of its own, and a new one whenever it changes. With one
  // name they are a group: one stop of the Tab key, and the browser's arrow keys choose.
  const group = () => {
    for (const fieldset of all('fieldset:has(input[type=radio])')) {
      const name = idOf(fieldset, `group-${all('fieldset').indexOf(fieldset)}`);
      for (const radio of all('input[type=radio]', fieldset)) set(radio, 'name', name);
      const label = fieldset.querySelector('[data-testid=block-info]');
      if (!label) continue;
      set(fieldset, 'role', 'radiogroup');
      set(fieldset, 'aria-labelledby', idOf(label, `${name}-label`));
    }
  };

  // Controls: names in the language of the page, and their help as description.
  const nameControls = () => {
    for (const label of all('[data-testid=block-info]')) {
      const block = label.closest('.block'), name = label.textContent.trim();
      if (!block?.id) continue;
      const help = block.querySelector('.info-text');
      for (const range of all('input[type=range]', block)) {
        set(range, 'aria-label', name);
        for (const number of all('input[type=number]', block))
          set(number, 'aria-label', template('number', {name}));
      }
      for (const reset of all('.reset-button', block))
        set(reset, 'aria-label', template('reset', {name}));
      for (const described of block.matches('fieldset') ? [block] : all('input[type=range]', block))
        if (help) set(described, 'aria-describedby', idOf(help, `${block.id}-help`));
    }
  };

  // What else has no name of its own, or one twice.
  const nameOthers = () => {
    const selected = document.querySelector('[role=tab][aria-selected=true]')?.textContent.trim();
    for (const panel of all('[role=tabpanel]'))
      if (selected && panel.checkVisibility()) set(panel, 'aria-label', selected);
    for (const copy of all('.copy_code_button'))
      for (const name of ['aria-label', 'title']) set(copy, name, template('copy'));
    for (const icon of all('.label-wrap .icon')) set(icon, 'aria-hidden', 'true');
    for (const input of all('#head input[type=file]')) set(input, 'accept', '.png');
    for (const image of all('footer img')) set(image, 'alt', '');
  };

  // Headings around the buttons that unfold a part of a tab, and regions with the names of headings.
  const outline = () => {
    for (const button of all('.gr-accordion > button.label-wrap')) {
      const level = button.closest('.controls') ? 'h3' : 'h2';
      const heading = Object.assign(document.createElement(level), {className: 'unfolds'});
      button.replaceWith(heading);
      heading.append(button);
    }
    for (const button of all('.unfolds > button'))
      set(button, 'aria-expanded', String(button.classList.contains('open')));
    for (const part of all('.hands, .shown, .shelf, .look')) {
      const heading = part.querySelector('h2');
      if (!heading) continue;
      const place = heading.closest('[id$="-heading"]')?.id;
      set(part, 'role', 'region');
      set(part, 'aria-labelledby', idOf(heading, `${place}-text`));
    }
  };

  // Announcements: one live region, told the start, the middle and the end of a run.
  const announcer = Object.assign(document.createElement('p'), {className: 'sr-only'});
  announcer.id = 'announcer';
  announcer.setAttribute('role', 'status');
  document.body.append(announcer);
  const announce = text => {
    announcer.textContent = announcer.textContent === text ? `${text}\u00a0` : text;
  };

  const told = {}; // by status: the line, the place in the queue, the run as far as it was told
  const tell = part => {
    const line = part.querySelector('.status'), bar = part.querySelector('progress');
    const text = line?.textContent ?? '';
    const before = told[part.id];
    const now = (told[part.id] = {...before, text, place: line?.dataset.place});
    if (!before || !text || text === before.text || line.matches('.translated')) return;
    if (now.place) {
      if (now.place !== before.place) announce(text);
    } else if (bar) {
      const begins = before.value === undefined || bar.value < before.value;
      const half = 2 * bar.value >= bar.max && bar.value > 0;
      if (begins || (half && !before.half)) announce(text);
      Object.assign(now, {value: bar.value, half: half || (before.half && !begins)});
    } else {
      const kind = line.dataset.kind;
      if (kind !== 'quiet') announce(text);
      if (kind !== 'quiet') Object.assign(now, {value: kind && 0, half: false});
    }
  };

  // Gradio announces every run too, in words of its own.
  const tellAll = () => {
    for (const other of all('.sr-only[role=status]:not(#announcer)')) {
      other.removeAttribute('role');
      set(other, 'aria-live', 'off');
      other.hidden = true;
    }
    all('[id$="-status"]').forEach(tell);
  };

  // Focus: what Gradio replaces or disables for a while gets it back, if nothing else has it.
  let focus = null;
  const focusable = part => all('a, button, input, select, [tabindex]', part);
  const noteFocus = ({target}) => {
    const part = target.closest?.('.block[id]');
    focus = {target, part: part?.id, at: part ? focusable(part).indexOf(target) : -1};
  };
  const keepFocus = () => {
    if (!focus || ![document.body, null].includes(document.activeElement)) return;
    const {target, part, at} = focus;
    focus.lost ||= !target.isConnected || target.disabled;
    const heir = target.isConnected ? target : byId(part) && focusable(byId(part))[at];
    if (focus.lost && heir && !heir.disabled) heir.focus({preventScroll: true});
  };
  document.addEventListener('focusin', noteFocus);
  // Gradio's lists drop it when Enter chooses. They unfold when they get it, hence Escape.
  document.addEventListener('keydown', ({key, target}) => {
    if (key !== 'Enter' || !target.matches?.('[role=combobox]')) return;
    setTimeout(() => {
      if (document.activeElement !== document.body) return;
      target.focus();
      target.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}));
    }, 60);
  }, true);
  document.addEventListener('pointerdown', () => (focus = null), true);

  // Keys: the first and the last of a group, as Home and End do elsewhere; arrows among the tabs.
  const STEPS = {Home: 0, End: -1, ArrowLeft: 'before', ArrowRight: 'after'};
  const chosen = (list, current, step) => {
    if (typeof step === 'number') return list.at(step);
    const at = list.indexOf(current) + (step === 'after' ? 1 : -1);
    return list.at(at % list.length);
  };
  document.addEventListener('keydown', event => {
    const {target, key} = event, step = STEPS[key];
    const isTab = target.matches?.('[role=tab]');
    const isRadio = target.matches?.('[type=radio]') && typeof step === 'number';
    if (step === undefined || !(isTab || isRadio)) return;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const list = isTab ? all('[role=tab]', target.parentElement)
      : all('input[type=radio]', target.closest('fieldset'));
    const next = chosen(list.filter(one => !one.disabled), target, step);
    next.focus();
    next.click();
  });

  // Numbers as keyboards type them: a browser drops a decimal comma or a full-width digit unsaid, so
  // that 0,5 becomes 05. Boxes of whole numbers have no use for a point.
  const asNumber = text => {
    const plain = text.normalize('NFKC').replace(/[−–‐]/g, '-').replace(/[٠-٩]/g, d => d.charCodeAt(0) & 15);
    return /^[-+]?\d*[,٫。]?\d{0,2}$/.test(plain.trim()) ? plain.replace(/[,٫。]/, '.') : plain;
  };
  document.addEventListener('beforeinput', event => {
    const {target, data, dataTransfer} = event;
    if (!target.matches?.('input[type=number]') || event.isComposing) return;
    const typed = data ?? dataTransfer?.getData('text/plain') ?? '';
    const number = asNumber(typed), isWhole = Number.isInteger(Number(target.step || NaN));
    if (number === typed || (isWhole && number.includes('.'))) return;
    event.preventDefault();
    document.execCommand('insertText', false, number);
  }, true);

  // A press of Paint brings the result into sight, where the screen is too small for both. Nobody
  // who scrolls or types meanwhile is moved, and the focus stays.
  const SIGHT = 0.75; // of the result, or of the screen where that is smaller
  let due = null; // status of the run whose result is still to be shown
  const isSeen = element => {
    const {top, bottom, height} = element.getBoundingClientRect();
    const seen = Math.min(bottom, innerHeight) - Math.max(top, 0);
    return seen >= SIGHT * Math.min(height, innerHeight);
  };
  const show = result => {
    if (!result || isSeen(result)) return;
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    result.scrollIntoView({block: 'nearest', behavior: calm ? 'auto' : 'smooth'});
  };
  const pressed = tab => {
    show(byId(`${tab}-result`));
    due = tab;
  };
  document.addEventListener('click', event => {
    const button = event.isTrusted && event.target.closest?.('.wish [id$="-draw"]');
    if (button) pressed(button.id.slice(0, -'-draw'.length));
  });
  document.addEventListener('keydown', event => {
    const enters = event.key === 'Enter' && !event.shiftKey && !event.isComposing;
    const wish = enters && event.target.matches?.('input, textarea') && event.target.closest('.wish');
    const button = wish && wish.querySelector('[id$="-draw"]');
    if (button) pressed(button.id.slice(0, -'-draw'.length));
    else due = null;
  });
  for (const name of ['wheel', 'touchmove'])
    document.addEventListener(name, () => (due = null), {passive: true});

  const showDue = () => {
    const result = due && byId(`${due}-result`);
    if (!byId(`${due}-status`)?.querySelector('progress')) return;
    due = null; // the first step: the new pictures have their size
    show(result);
  };

  let waiting = 0;
  const look = () => {
    waiting = 0;
    nameControls();
    nameOthers();
    outline();
    keepFocus();
    showDue();
  };
  const watch = new MutationObserver(() => {
    group();
    tellAll();
    waiting ||= setTimeout(look, 30);
  });
  watch.observe(document.body, {
    subtree: true,
    childList: true,
    characterData: true,
    attributes: true,
    attributeFilter: ['name', 'aria-label', 'class', 'disabled'],
  });
  group();
  tellAll();
  look();

  // Puts the focus on the result of a tab, as after a cell of the sweep was opened.
  window.studio.focusResult = tab => {
    const result = byId(`${tab}-result`)?.closest('.shown');
    result?.setAttribute('tabindex', '-1');
    result?.focus();
  };
}
