// A number at a colour bar, no wider than there is room for.
const size = Math.abs(tick);
const text = size === 0 ? "0"
  : size >= 1e-3 && size < 1e6 ? Number(tick.toPrecision(6)).toLocaleString("en-US", {maximumFractionDigits: 6})
  : Number(tick.toPrecision(4)).toExponential().replace("e+", "e");
return text.replaceAll("-", "−");
