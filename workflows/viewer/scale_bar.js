// A bar of a round length, at most 0.3 of the panel long, in its lower left corner.
const [x0, x1, y0, y1] = [x_range.start, x_range.end, y_range.start, y_range.end];
const longest = 0.3 * (x1 - x0) * unit;
let length = lengths[0];
for (const one of lengths) { if (one <= longest) { length = one; } }
const left = x0 + 0.05 * (x1 - x0), low = y0 + 0.06 * (y1 - y0);
const words = unit_name === "″" ? (length < 60 ? `${length}″` : `${length / 60}′`) : `${length} ${unit_name}`;
source.data = {x0: [left], x1: [left + length / unit], y: [low], middle: [left + length / unit / 2], words: [words]};
