// Pictures from outside, as the canvas of the Edit tab takes them: decoded by the browser, upright,
// without metadata, and small enough. Runs once, when the page loads.
() => {
  const MOST_PX = 1024, LEAST_PX = 16, MAX_BYTES = 10 * 2 ** 20;

  // What is wrong with a file, or what was done to it: the name of a sentence, and its values.
  const told = (name, values = {}) => Object.assign(new Error(name), {told: {name, values}});

  const blank = (width, height) => Object.assign(document.createElement('canvas'), {width, height});

  const copied = (source, width, height) => {
    const canvas = blank(width, height), context = canvas.getContext('2d');
    context.imageSmoothingQuality = 'high';
    context.drawImage(source, 0, 0, width, height);
    return canvas;
  };

  // Halves as often as it can, since one large step would leave pixels out.
  const resized = (source, width, height) => {
    let canvas = source;
    while (canvas.width >= 2 * width && canvas.height >= 2 * height)
      canvas = copied(canvas, Math.round(canvas.width / 2), Math.round(canvas.height / 2));
    return copied(canvas, width, height);
  };

  // Width and height within the most that is taken.
  const fitting = (width, height, most = MOST_PX) => {
    const scale = Math.min(1, most / Math.max(width, height));
    return [width, height].map(side => Math.max(1, Math.round(scale * side)));
  };

  // Returns a canvas with what was decoded, and the sentence that it was made smaller.
  const taken = source => {
    const {width, height} = source, size = fitting(width, height);
    if (Math.min(...size) < LEAST_PX) throw told('small', {width, height, least: LEAST_PX});
    const isShrunk = size[0] < width || size[1] < height;
    const picture = isShrunk ? resized(source, ...size) : copied(source, width, height);
    const note = isShrunk && {name: 'shrunk', values: {width, height, most: MOST_PX}};
    return {picture, note};
  };

  const ofFile = async file => {
    const megabytes = Math.ceil(file.size / 2 ** 20 * 10) / 10;
    if (file.size > MAX_BYTES) throw told('large', {got: megabytes, most: MAX_BYTES >> 20});
    let bitmap;
    try {
      bitmap = await createImageBitmap(file, {imageOrientation: 'from-image'});
    } catch {
      throw told('unreadable', {got: file.name || file.type});
    }
    return taken(bitmap);
  };

  const ofAddress = async address => {
    const image = new Image();
    image.src = address;
    await image.decode();
    return copied(image, image.naturalWidth, image.naturalHeight);
  };

  const pixels = canvas =>
    canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;

  // A mask of one byte a pixel, 255 where everything may change, as a picture and back.
  const ofMask = (mask, width, height) => {
    const canvas = blank(width, height), context = canvas.getContext('2d');
    const image = context.createImageData(width, height);
    for (let i = 0; i < mask.length; i++) {
      image.data.fill(mask[i], 4 * i, 4 * i + 3);
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    return canvas;
  };

  const toMask = canvas => {
    const data = pixels(canvas), mask = new Uint8Array(data.length / 4);
    for (let i = 0; i < mask.length; i++) {
      const grey = 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
      mask[i] = Math.round(grey * data[4 * i + 3] / 255);
    }
    return mask;
  };

  const hex = color => `#${color.map(c => Math.round(c).toString(16).padStart(2, '0')).join('')}`.toUpperCase();

  // The colours of a picture with their shares: k-means, which starts from equal parts of the
  // pixels in the order of their lightness, so that a picture has one palette.
  const COLORS = 5, ROUNDS = 12, SAMPLE_PX = 64, LEAST_SHARE = 0.02, ALIKE = 30;
  const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
  const mean = colors => [0, 1, 2].map(c => colors.reduce((sum, color) => sum + color[c], 0) / colors.length);

  const samples = picture => {
    const data = pixels(resized(picture, ...fitting(picture.width, picture.height, SAMPLE_PX)));
    const found = [];
    for (let i = 0; i < data.length; i += 4)
      if (data[i + 3] > 127) found.push([data[i], data[i + 1], data[i + 2]]);
    return found.sort((a, b) => a[0] + a[1] + a[2] - b[0] - b[1] - b[2]);
  };

  const clustered = colors => {
    const part = i => colors.slice(Math.floor(i * colors.length / COLORS),
      Math.ceil((i + 1) * colors.length / COLORS));
    let centres = Array.from({length: COLORS}, (_, i) => mean(part(i))), groups = [];
    for (let round = 0; round < ROUNDS; round++) {
      groups = centres.map(() => []);
      for (const color of colors) {
        const near = centres.map(centre => distance(centre, color));
        groups[near.indexOf(Math.min(...near))].push(color);
      }
      centres = centres.map((centre, i) => (groups[i].length ? mean(groups[i]) : centre));
    }
    return groups.filter(group => group.length).sort((a, b) => b.length - a.length);
  };

  const palette = picture => {
    const colors = samples(picture), kept = [];
    if (!colors.length) return '';
    for (const group of clustered(colors)) {
      const alike = kept.find(other => distance(mean(other), mean(group)) < ALIKE);
      if (alike) alike.push(...group);
      else if (group.length >= LEAST_SHARE * colors.length) kept.push([...group]);
    }
    const total = kept.reduce((sum, group) => sum + group.length, 0);
    const shares = kept.map(group => Math.max(1, Math.round(100 * group.length / total)));
    shares[0] += 100 - shares.reduce((sum, share) => sum + share, 0);
    return kept.map((group, i) => `${hex(mean(group))} ${shares[i]}`).join(', ');
  };

  window.studio.pictures = {
    MOST_PX, blank, resized, fitting, taken, ofFile, ofAddress, pixels, ofMask, toMask, hex, palette,
  };
}
