(offer, ...texts) => {
  // In the browser, which alone knows what is in a box now. What somebody typed stays: an empty box is filled, and one
  // with a proposal of before; another one when it is wanted.
  if (offer?.at == null) return [offer, ...texts];
  const now = texts[offer.at] || "";
  if (offer.wanted || !now.trim() || offer.earlier.includes(now)) texts[offer.at] = offer.text;
  return [{ ...offer, settled: true, wanted: false, taken: texts[offer.at] === offer.text }, ...texts];
}
