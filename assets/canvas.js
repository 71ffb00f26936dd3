// The canvas of the Edit tab: a picture, what of it is redrawn, and the square that the model sees.
// By mouse, pen, finger and keys; everything stays in the browser. Runs once, when the page loads.
() => {
  const pictures = window.studio.pictures;
  const byId = id => document.getElementById(id);
  const clamp = (value, least, most) => Math.min(most, Math.max(least, value));
  const TOOLS = {b: 'brush', e: 'eraser', c: 'square', p: 'pick'};
  const MOST_STATES = 40, LEAST_SQUARE = 16, SMALL_PX = 64, FOLLOW_MS = 150;

  // What there is at a moment. A state never changes; undo and redo go from one to another.
  // picture: a canvas. mask: one byte a pixel, or null where nothing is marked.
  // square: [left, top, side], or null where nobody has chosen one.
  const nothing = {picture: null, mask: null, square: null};
  let states = [nothing], at = 0;
  const now = () => states[at];

  const tools = {tool: 'brush', size: 8, amount: 100}; // size in percent of the longer side
  const cursor = {x: 0.5, y: 0.5, isShown: false}; // of the keys, as shares of the picture
  let host = null, board = null, trigger = () => {};
  let stroke = null, hover = null, drag = null;
  let sent = ['', '', ''], isUnsent = false, changes = 0, picked = '';

  // Sentences: templates of the page, in its language.
  const fill = (name, values) =>
    (byId(`canvas-${name}`)?.textContent ?? '').trim().replace(/\{(\w+)\}/g, (_, key) => values[key]);
  const allWords = () =>
    [...document.querySelectorAll('.template[id^=canvas-]')].map(one => one.textContent).join('\n');
  const lines = {note: null, error: null};
  const say = (kind, told = null) => {
    lines[kind] = told;
    const line = host?.querySelector(`.${kind}`);
    if (line) line.textContent = told ? fill(told.name, told.values) : '';
  };
  const hush = () => { // what was said of an earlier change
    say('note');
    say('error');
  };
  const complain = error => {
    if (!error.told) throw error;
    say('note');
    say('error', error.told);
  };

  const shareOf = mask => {
    if (!mask) return 0;
    let count = 0;
    for (const value of mask) count += value > 0;
    return Math.max(1, Math.round(100 * count / mask.length));
  };
  const clears = new WeakMap(); // whether some of a picture is transparent
  const hasClear = picture => {
    if (!clears.has(picture)) clears.set(picture, firstMask(picture).isAny);
    return clears.get(picture);
  };
  const tellFacts = () => {
    const {picture, mask} = now();
    if (!host) return;
    const values = {width: picture?.width, height: picture?.height, share: shareOf(mask)};
    const unmarked = picture && hasClear(picture) ? 'size_clear' : 'size';
    const text = picture ? fill(mask ? 'facts' : unmarked, values) : '';
    const line = host.querySelector('.facts');
    if (line.textContent !== text) line.textContent = text;
  };
  let words = '';
  const relabel = () => {
    if (!host) return;
    words = allWords();
    board.setAttribute('aria-label', fill('label', {}));
    host.querySelector('.keys').textContent = fill('keys', {});
    host.querySelector('.empty').textContent = fill('empty', {});
    say('note', lines.note);
    say('error', lines.error);
    tellFacts();
  };

  // What Gradio holds: addresses of picture and mask, and the numbers of the square.
  const addresses = new WeakMap();
  const kept = (key, make) => {
    if (!addresses.has(key)) addresses.set(key, make());
    return addresses.get(key);
  };
  const isMarked = mask => mask?.some(value => value > 0);
  const addressOf = picture => (picture ? kept(picture, () => picture.toDataURL('image/png')) : '');
  const maskAddress = ({picture, mask}) => mask
    ? kept(mask, () => pictures.ofMask(mask, picture.width, picture.height).toDataURL('image/png')) : '';
  const texts = state => [
    addressOf(state.picture), maskAddress(state), state.square ? state.square.join(', ') : '',
  ];
  // What was done by hand draws again where the page is live, as other controls do when they are let
  // go. A picture of which "Fill in" has nothing to draw yet is no reason to draw.
  const isDrawable = () => {
    const {picture, mask} = now(), task = byId('edit-task')?.querySelector('input:checked')?.value;
    return Boolean(picture && (task !== 'fill' || mask || hasClear(picture)));
  };
  const held = () => byId('edit-changed')?.querySelector('input, textarea')?.value;
  const pressWhenHeld = () => {
    const count = String(changes);
    if (isDrawable()) window.studio.press('edit', () => held() === count && !stroke && !drag);
  };
  const send = () => {
    if (!host) {
      isUnsent = true;
      return;
    }
    isUnsent = false;
    trigger('input');
  };

  // The state before or after this one that has a picture, or -1: without one, no tools are seen, so
  // nothing would lead back.
  const next = step => {
    let index = at + step;
    while (states[index] && !states[index].picture) index += step;
    return states[index] ? index : -1;
  };
  const go = step => {
    const index = next(step);
    if (index < 0) return;
    at = index;
    hush();
    refresh();
    send();
  };
  const add = change => {
    const state = {...now(), ...change};
    if (!isMarked(state.mask)) state.mask = null;
    states = [...states.slice(Math.max(0, at + 2 - MOST_STATES), at + 1), state];
    at = states.length - 1;
    hush();
    refresh();
  };
  const act = change => {
    add(change);
    send();
  };

  // --- what is seen ------------------------------------------------------------------------------

  const veils = new WeakMap(); // white, as opaque as the mask
  const veilOf = ({picture, mask}) => {
    if (!veils.has(mask)) {
      const canvas = pictures.blank(picture.width, picture.height), context = canvas.getContext('2d');
      const image = context.createImageData(canvas.width, canvas.height);
      for (let i = 0; i < mask.length; i++) {
        image.data.fill(255, 4 * i, 4 * i + 3);
        image.data[4 * i + 3] = mask[i];
      }
      context.putImageData(image, 0, 0);
      veils.set(mask, canvas);
    }
    return veils.get(mask);
  };

  // Stripes, so that what is marked is seen by people who do not tell its colour from the picture.
  const tile = (side, draw) => {
    const canvas = pictures.blank(side, side);
    draw(canvas.getContext('2d'), side);
    return canvas;
  };
  const STRIPES = tile(16, (context, side) => {
    context.fillStyle = '#E0218A';
    context.fillRect(0, 0, side, side);
    for (const [color, width] of [['#FFFFFF', 4], ['#3A0A24', 1]]) {
      context.strokeStyle = color;
      context.lineWidth = width;
      context.beginPath();
      for (const shift of [-side, 0, side]) {
        context.moveTo(shift - 2, side + 2);
        context.lineTo(shift + side + 2, -2);
      }
      context.stroke();
    }
  });
  const CHECKS = tile(16, (context, side) => {
    context.fillStyle = '#FFFFFF';
    context.fillRect(0, 0, side, side);
    context.fillStyle = '#D4D4D4';
    for (const [x, y] of [[0, 0], [1, 1]]) context.fillRect(x * side / 2, y * side / 2, side / 2, side / 2);
  });

  const dpr = () => Math.min(2, window.devicePixelRatio || 1);
  const shown = () => board.getBoundingClientRect();
  const layer = pictures.blank(1, 1);

  const paintMask = (context, width, height) => {
    const veil = stroke ? stroke.live : now().mask && veilOf(now());
    if (!veil) return;
    Object.assign(layer, {width, height});
    const over = layer.getContext('2d');
    over.imageSmoothingEnabled = false;
    over.drawImage(veil, 0, 0, width, height);
    over.globalCompositeOperation = 'source-in';
    over.fillStyle = over.createPattern(STRIPES, 'repeat');
    over.fillRect(0, 0, width, height);
    context.globalAlpha = 0.62;
    context.drawImage(layer, 0, 0);
    context.globalAlpha = 1;
  };

  const outlined = (context, draw) => {
    for (const [color, width] of [['#000000', 4], ['#FFFFFF', 2]]) {
      context.strokeStyle = color;
      context.lineWidth = width * dpr();
      context.beginPath();
      draw();
      context.stroke();
    }
  };

  const isSquareShown = () => {
    const {picture, square} = now();
    if (tools.tool === 'square' || drag?.square) return true;
    return Boolean(square) && Math.max(picture.width, picture.height) > SMALL_PX;
  };
  const paintSquare = (context, scale) => {
    if (!isSquareShown()) return;
    const [left, top, side] = (drag?.square ?? squareOf(now())).map(value => value * scale);
    const {width, height} = context.canvas;
    context.fillStyle = '#00000077';
    context.beginPath();
    context.rect(0, 0, width, height);
    context.rect(left, top, side, side);
    context.fill('evenodd');
    outlined(context, () => context.rect(left, top, side, side));
    if (tools.tool !== 'square') return;
    const half = 6 * dpr();
    for (const [x, y] of corners([left, top, side])) {
      context.fillStyle = '#FFFFFF';
      context.fillRect(x - half, y - half, 2 * half, 2 * half);
      context.lineWidth = dpr();
      context.strokeStyle = '#000000';
      context.strokeRect(x - half, y - half, 2 * half, 2 * half);
    }
  };

  const paintCursor = (context, scale) => {
    const {picture} = now();
    const place = cursor.isShown ? {x: cursor.x * picture.width, y: cursor.y * picture.height} : hover;
    if (!place || tools.tool === 'square') return;
    const x = place.x * scale, y = place.y * scale, arm = 9 * dpr();
    const radius = tools.tool === 'pick' ? 5 * dpr() : Math.max(2, brushPx() / 2 * scale);
    outlined(context, () => context.arc(x, y, radius, 0, 2 * Math.PI));
    if (!cursor.isShown) return;
    outlined(context, () => {
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + dx * 3, y + dy * 3);
        context.lineTo(x + dx * arm, y + dy * arm);
      }
    });
  };

  let due = 0;
  const paint = () => {
    due = 0;
    const {picture} = now(), box = board && shown();
    if (!picture || !box?.width) return;
    const width = Math.round(box.width * dpr()), scale = width / picture.width;
    const height = Math.round(picture.height * scale);
    if (board.width !== width || board.height !== height) Object.assign(board, {width, height});
    const context = board.getContext('2d');
    context.fillStyle = context.createPattern(CHECKS, 'repeat');
    context.fillRect(0, 0, width, height);
    context.imageSmoothingEnabled = scale < 3;
    context.drawImage(picture, 0, 0, width, height);
    paintMask(context, width, height);
    paintSquare(context, scale);
    paintCursor(context, scale);
  };
  const repaint = () => (due ||= requestAnimationFrame(paint));

  const refresh = () => {
    if (!host) return;
    const {picture} = now();
    host.classList.toggle('filled', Boolean(picture));
    board.dataset.tool = tools.tool;
    if (picture) {
      board.style.aspectRatio = `${picture.width} / ${picture.height}`;
      board.style.setProperty('--ratio', picture.width / picture.height);
    }
    for (const [id, isOff] of [['undo', next(-1) < 0], ['redo', next(1) < 0]]) {
      const button = byId(`edit-${id}`);
      if (button) button.setAttribute('aria-disabled', String(isOff));
    }
    tellFacts();
    repaint();
  };

  // --- brush and eraser --------------------------------------------------------------------------

  const brushPx = () => {
    const {picture} = now();
    return Math.max(1, tools.size / 100 * Math.max(picture.width, picture.height));
  };

  // What an empty mask begins with: what is transparent is drawn anyway, so it stays so.
  const firstMask = picture => {
    const data = pictures.pixels(picture), mask = new Uint8Array(data.length / 4);
    let isAny = false;
    for (let i = 0; i < mask.length; i++)
      if (data[4 * i + 3] === 0) {
        mask[i] = 255;
        isAny = true;
      }
    return {mask, isAny};
  };

  const begin = (point, tool) => {
    const {picture, mask} = now(), {width, height} = picture;
    const first = mask || tool === 'eraser' ? {mask: mask ?? new Uint8Array(width * height)} : firstMask(picture);
    const shape = pictures.blank(width, height), live = pictures.blank(width, height);
    live.getContext('2d').drawImage(veilOf({picture, mask: first.mask}), 0, 0);
    stroke = {tool, mask: first.mask, shape, live, last: point, level: Math.round(2.55 * tools.amount)};
    stroke.note = first.isAny ? {name: 'transparent', values: {}} : null;
    extend(point);
  };

  // Only once over each pixel, since what is translucent would add up.
  const dabbed = (context, from, to) => {
    context.lineCap = 'round';
    context.lineWidth = brushPx();
    context.beginPath();
    if (from.x === to.x && from.y === to.y) {
      context.arc(to.x, to.y, brushPx() / 2, 0, 2 * Math.PI);
      context.fill();
    } else {
      context.moveTo(from.x, from.y);
      context.lineTo(to.x, to.y);
      context.stroke();
    }
  };

  const extend = point => {
    const {shape, live, last, level, tool} = stroke;
    dabbed(shape.getContext('2d'), last, point);
    const seen = live.getContext('2d');
    seen.globalCompositeOperation = 'destination-out';
    dabbed(seen, last, point);
    if (tool === 'brush') {
      seen.globalCompositeOperation = 'destination-over';
      seen.strokeStyle = seen.fillStyle = `rgba(255, 255, 255, ${level / 255})`;
      dabbed(seen, last, point);
      seen.strokeStyle = seen.fillStyle = '#000000';
    }
    stroke.last = point;
    repaint();
  };

  const finish = () => {
    if (!stroke) return;
    const {tool, mask, shape, level, note} = stroke, data = pictures.pixels(shape);
    const painted = mask.slice();
    for (let i = 0; i < painted.length; i++)
      if (data[4 * i + 3] > 127) painted[i] = tool === 'eraser' ? 0 : level;
    stroke = null;
    act({mask: painted});
    say('note', note);
  };

  // --- the square --------------------------------------------------------------------------------

  const bounds = (mask, width) => {
    let [left, top, right, bottom] = [Infinity, Infinity, -1, -1];
    mask.forEach((value, i) => {
      if (!value) return;
      const x = i % width, y = (i - x) / width;
      [left, top] = [Math.min(left, x), Math.min(top, y)];
      [right, bottom] = [Math.max(right, x), Math.max(bottom, y)];
    });
    return {left, top, right: right + 1, bottom: bottom + 1};
  };

  // The chosen square, or the one that a run would choose; see `pipelines/products/canvas.py`.
  const squareOf = ({picture, mask, square}) => {
    if (square) return square;
    const {width, height} = picture, longest = Math.max(width, height);
    if (!mask) return [Math.floor((width - longest) / 2), Math.floor((height - longest) / 2), longest];
    const {left, top, right, bottom} = bounds(mask, width);
    const extent = Math.max(right - left, bottom - top), most = Math.max(Math.min(width, height), extent);
    const side = Math.min(most, Math.max(64, Math.round(1.6 * extent)));
    const placed = (wished, room) => (room < 0 ? Math.floor(room / 2) : clamp(Math.floor(wished), 0, room));
    return [placed((left + right - side) / 2, width - side), placed((top + bottom - side) / 2, height - side), side];
  };
  const within = ([left, top, side]) => {
    const {width, height} = now().picture;
    const held = Math.round(clamp(side, Math.min(LEAST_SQUARE, width, height), Math.min(width, height)));
    const placed = (edge, room) => clamp(Math.round(edge + (side - held) / 2), 0, room); // same centre
    return [placed(left, width - held), placed(top, height - held), held];
  };
  const corners = ([left, top, side]) =>
    [[left, top], [left + side, top], [left, top + side], [left + side, top + side]];

  const grab = (point, reach) => {
    const square = within(squareOf(now())), [left, top, side] = square;
    const near = corners(square).findIndex(([x, y]) => Math.hypot(x - point.x, y - point.y) < reach);
    const isInside = point.x >= left && point.x < left + side && point.y >= top && point.y < top + side;
    if (near >= 0) drag = {square, opposite: corners(square)[3 - near]};
    else if (isInside) drag = {square, offset: [point.x - left, point.y - top]};
    else drag = {square: within([point.x - side / 2, point.y - side / 2, side]), offset: [side / 2, side / 2]};
    repaint();
  };

  const pull = point => {
    if (drag.offset) {
      drag.square = within([point.x - drag.offset[0], point.y - drag.offset[1], drag.square[2]]);
    } else {
      const [x, y] = drag.opposite, {width, height} = now().picture;
      const isLeft = point.x < x, isAbove = point.y < y;
      const most = Math.min(isLeft ? x : width - x, isAbove ? y : height - y);
      const wished = Math.max(Math.abs(point.x - x), Math.abs(point.y - y), LEAST_SQUARE);
      const side = Math.round(Math.min(wished, most));
      if (side >= LEAST_SQUARE) drag.square = [isLeft ? x - side : x, isAbove ? y - side : y, side];
    }
    repaint();
  };

  const release = () => {
    if (!drag) return;
    const {square} = drag;
    drag = null;
    act({square});
  };

  // --- the other tools ---------------------------------------------------------------------------

  const pick = ({x, y}) => {
    const {picture} = now();
    const place = [clamp(Math.floor(x), 0, picture.width - 1), clamp(Math.floor(y), 0, picture.height - 1)];
    const [red, green, blue, alpha] = picture.getContext('2d').getImageData(...place, 1, 1).data;
    if (!alpha) return;
    picked = pictures.hex([red, green, blue]);
    say('note', {name: 'picked', values: {color: picked}});
    trigger('select');
  };

  const invert = () => {
    const {picture, mask} = now();
    if (!picture) return;
    act({mask: mask ? mask.map(value => 255 - value) : new Uint8Array(picture.width * picture.height).fill(255)});
  };

  const clear = () => {
    if (!now().picture) return;
    act(tools.tool === 'square' ? {square: null} : {mask: null});
  };

  // Enlarges the picture by a quarter on each side, within the most that is taken.
  const border = () => {
    const {picture, mask} = now();
    if (!picture) return;
    const scale = Math.min(1, pictures.MOST_PX / (1.5 * Math.max(picture.width, picture.height)));
    const inner = [picture.width, picture.height].map(side => Math.max(1, Math.floor(scale * side)));
    const edge = inner.map(side => Math.floor(side / 4));
    const size = inner.map((side, i) => side + 2 * edge[i]);
    const framed = (source, isMask) => {
      const canvas = pictures.blank(...size), context = canvas.getContext('2d');
      if (isMask) {
        context.fillStyle = '#FFFFFF';
        context.fillRect(0, 0, ...size);
        context.imageSmoothingEnabled = false;
      }
      context.drawImage(scale < 1 && !isMask ? pictures.resized(source, ...inner) : source, ...edge, ...inner);
      return canvas;
    };
    const marked = mask && pictures.toMask(framed(pictures.ofMask(mask, picture.width, picture.height), true));
    act({picture: framed(picture), mask: marked, square: null});
    const name = scale < 1 ? 'bordered_smaller' : 'bordered';
    say('note', {name, values: {width: size[0], height: size[1]}});
  };

  const use = tool => {
    tools.tool = tool;
    refresh();
  };

  // --- pictures that come ------------------------------------------------------------------------

  const bring = ({picture, note}) => {
    act({picture, mask: null, square: null});
    say('note', note || null);
  };
  const take = async file => {
    try {
      bring(await pictures.ofFile(file));
      board?.focus({preventScroll: true});
    } catch (error) {
      complain(error);
    }
  };

  const input = Object.assign(document.createElement('input'), {type: 'file', accept: 'image/*', hidden: true});
  input.id = 'canvas-file';
  document.body.append(input);
  input.addEventListener('change', () => {
    if (input.files[0]) take(input.files[0]);
    input.value = '';
  });

  const isSeen = () => Boolean(host?.isConnected && host.checkVisibility());
  const onEasel = event => event.target.closest?.('.easel');
  const hasFiles = event => [...(event.dataTransfer?.types ?? [])].includes('Files');
  document.addEventListener('dragover', event => {
    host?.classList.toggle('over', Boolean(onEasel(event) && hasFiles(event)));
    if (onEasel(event) && hasFiles(event)) event.preventDefault();
  });
  for (const name of ['dragleave', 'drop', 'dragend'])
    document.addEventListener(name, () => host?.classList.remove('over'));
  document.addEventListener('drop', event => {
    if (!onEasel(event) || !hasFiles(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
  document.addEventListener('paste', event => {
    const data = event.clipboardData, file = data?.files?.[0];
    const isText = event.target.matches?.('input, textarea') && [...data.types].includes('text/plain');
    if (!file || isText || !isSeen()) return;
    event.preventDefault();
    take(file);
  });

  // "Edit this" of a result: its picture comes here, and the page shows it.
  const openTab = () => {
    const seen = [...document.querySelectorAll('button[role=tab]')];
    const folded = [...document.querySelectorAll('.overflow-dropdown button')]; // on a small screen
    const names = byId('products').querySelector('[data-names]').dataset.names.split(' ');
    const button = seen.find(one => one.dataset.tabId === 'edit');
    (button ?? folded[names.indexOf('edit') - seen.length])?.click();
  };
  const whenSeen = (then, tries = 100) => {
    if (isSeen()) then();
    else if (tries) setTimeout(whenSeen, 50, then, tries - 1);
  };
  const editThis = async button => {
    const image = button.closest('.pair').querySelector('img');
    bring(pictures.taken(await pictures.ofAddress(image.src)));
    openTab();
    whenSeen(() => {
      refresh();
      board.focus({preventScroll: true});
      host.scrollIntoView({block: 'nearest'});
    });
  };
  document.addEventListener('click', event => {
    if (event.target.closest?.('#edit-draw')) say('error');
    const button = event.target.closest?.('.edit-this');
    if (button) editThis(button).catch(complain);
  });

  // What the server changes: a run of a saved picture or a link, a chip that is taken away.
  const numbers = text => {
    const found = /^\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*$/.exec(text);
    return found ? found.slice(1).map(Number) : null;
  };
  const changed = async ([image, mask, square]) => {
    const state = {square: numbers(square)};
    if (image !== sent[0]) state.picture = image ? await pictures.ofAddress(image) : null;
    const {picture} = {...now(), ...state};
    if (mask !== sent[1] || image !== sent[0]) {
      const drawn = mask && picture ? await pictures.ofAddress(mask) : null;
      const fits = drawn?.width === picture?.width && drawn?.height === picture?.height;
      state.mask = drawn && fits ? pictures.toMask(drawn) : null;
      if (state.mask) addresses.set(state.mask, mask);
    }
    if (state.picture) addresses.set(state.picture, image);
    return state;
  };
  let following = 0;
  const follow = (image, mask, square) => {
    clearTimeout(following);
    following = setTimeout(async () => {
      const values = [image, mask, square].map(value => value ?? '');
      if (isUnsent || values.every((value, i) => value === sent[i])) return;
      const state = await changed(values);
      sent = values;
      stroke = drag = null;
      add(state);
    }, FOLLOW_MS);
  };
  const ask = () => (isUnsent ? send() : trigger('submit'));

  // --- hands -------------------------------------------------------------------------------------

  const pointOf = event => {
    const box = shown(), {picture} = now();
    return {
      x: (event.clientX - box.left) / box.width * picture.width,
      y: (event.clientY - box.top) / box.height * picture.height,
    };
  };
  const onPointerDown = event => {
    if (event.button > 0 && event.button !== 5) return;
    const isEraser = tools.tool === 'eraser' || (tools.tool === 'brush' && (event.buttons & 32));
    event.preventDefault();
    cursor.isShown = false;
    board.focus({preventScroll: true});
    board.setPointerCapture(event.pointerId);
    const point = pointOf(event);
    if (stroke || drag) return; // a second finger
    if (tools.tool === 'pick') pick(point);
    else if (tools.tool === 'square') {
      const reach = (event.pointerType === 'touch' ? 26 : 14) * now().picture.width / shown().width;
      grab(point, reach);
    } else begin(point, isEraser ? 'eraser' : 'brush');
    if (stroke) stroke.pointer = event.pointerId;
    if (drag) drag.pointer = event.pointerId;
  };
  const onPointerMove = event => {
    if (!now().picture) return;
    hover = event.pointerType === 'touch' ? null : pointOf(event);
    if (stroke?.pointer === event.pointerId)
      for (const part of event.getCoalescedEvents?.() ?? [event]) extend(pointOf(part));
    else if (drag?.pointer === event.pointerId) pull(pointOf(event));
    else repaint();
  };
  const onPointerEnd = event => {
    if (stroke?.pointer === event.pointerId) finish();
    if (drag?.pointer === event.pointerId) release();
  };

  const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  const moveBy = ([dx, dy], isFar) => {
    const {picture} = now(), step = Math.max(1, Math.round(Math.max(picture.width, picture.height) / 64));
    const far = isFar ? 8 * step : step;
    if (tools.tool === 'square') {
      const [left, top, side] = within(squareOf(now()));
      act({square: within([left + dx * far, top + dy * far, side])});
      return;
    }
    cursor.isShown = true;
    cursor.x = clamp(cursor.x + dx * far / picture.width, 0, 1);
    cursor.y = clamp(cursor.y + dy * far / picture.height, 0, 1);
    if (stroke) extend(cursorPoint());
    repaint();
  };
  const cursorPoint = () => ({x: cursor.x * now().picture.width, y: cursor.y * now().picture.height});
  const stamp = () => {
    cursor.isShown = true;
    if (tools.tool === 'pick') pick(cursorPoint());
    else if (tools.tool !== 'square' && !stroke) begin(cursorPoint(), tools.tool);
  };
  const resize = factor => {
    if (tools.tool === 'square') {
      const [left, top, side] = within(squareOf(now())), next = Math.round(side * factor);
      act({square: within([left + (side - next) / 2, top + (side - next) / 2, next])});
      return;
    }
    tools.size = clamp(Math.round(tools.size * factor + (factor > 1 ? 0.5 : -0.5)), 1, 50);
    trigger('change');
    repaint();
  };
  const onKeyDown = event => {
    const {key} = event;
    if (!now().picture) return;
    const isCommand = event.ctrlKey || event.metaKey;
    const done = () => event.preventDefault();
    if (isCommand && key.toLowerCase() === 'z') done(), go(event.shiftKey ? 1 : -1);
    else if (isCommand && key.toLowerCase() === 'y') done(), go(1);
    else if (isCommand || event.altKey) return;
    else if (ARROWS[key]) done(), moveBy(ARROWS[key], event.shiftKey);
    else if (key === ' ' || key === 'Enter') done(), event.repeat || stamp();
    else if (key === '[') done(), resize(1 / 1.25);
    else if (key === ']') done(), resize(1.25);
    else if (TOOLS[key.toLowerCase()]) done(), use(TOOLS[key.toLowerCase()]), trigger('change');
    else if (key.toLowerCase() === 'i') done(), invert();
    else if (key === 'Delete' || key === 'Backspace') done(), clear();
  };
  const onKeyUp = ({key}) => {
    if ((key === ' ' || key === 'Enter') && stroke && stroke.pointer === undefined) finish();
  };

  const listen = () => {
    board.addEventListener('pointerdown', onPointerDown);
    board.addEventListener('pointermove', onPointerMove);
    board.addEventListener('pointerup', onPointerEnd);
    board.addEventListener('pointercancel', onPointerEnd);
    board.addEventListener('pointerleave', () => {
      hover = null;
      repaint();
    });
    board.addEventListener('keydown', onKeyDown);
    board.addEventListener('keyup', onKeyUp);
    board.addEventListener('focus', () => {
      cursor.isShown = board.matches(':focus-visible') && tools.tool !== 'square';
      repaint();
    });
    board.addEventListener('blur', () => {
      cursor.isShown = false;
      if (stroke && stroke.pointer === undefined) finish();
      repaint();
    });
    host.querySelector('.empty').addEventListener('click', () => input.click());
    new ResizeObserver(repaint).observe(board);
  };

  // Gradio may put the sentences on the page after the canvas, and after the language changes.
  new MutationObserver(() => allWords() === words || relabel())
    .observe(document.body, {childList: true, subtree: true, characterData: true});

  window.studio.canvas = {
    // Takes the element that Gradio has made, and the function that sends its events.
    attach(element, send_event) {
      host = element.querySelector('.easel');
      board = host.querySelector('canvas');
      trigger = send_event;
      listen();
      relabel();
      refresh();
      // What the chips show follows from all settings, so they change whenever the server sets some.
      const chips = byId('edit-chips');
      if (chips) new MutationObserver(ask).observe(chips, {childList: true, subtree: true});
      ask();
    },
    follow,
    // The values of picture, mask and square, and a number that grows with each change.
    values() {
      sent = texts(now());
      changes += 1;
      pressWhenHeld();
      return [...sent, String(changes)];
    },
    picked() {
      changes += 1;
      pressWhenHeld();
      return [picked, String(changes)];
    },
    tools: () => [tools.tool, tools.size],
    use,
    size(percent) {
      tools.size = Number(percent);
      repaint();
    },
    amount(percent) {
      tools.amount = Number(percent);
    },
    choose: () => input.click(),
    undo: () => go(-1),
    redo: () => go(1),
    clear,
    invert,
    border,
    // The colours of the picture with shares, or what the control held.
    palette(before) {
      const {picture} = now(), found = picture && pictures.palette(picture);
      if (found) say('note', {name: 'palette', values: {palette: found}});
      changes += 1;
      pressWhenHeld();
      return [found || before, String(changes)];
    },
  };
}
