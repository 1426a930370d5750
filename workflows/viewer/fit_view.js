// Spaxels stay square: the ranges follow the shape of the panel. On a new size the whole image is shown.
const [width, height] = [plot.inner_width, plot.inner_height];
if (width > 10 && height > 10) {
  const [x0, x1, y0, y1] = home;
  const scale = Math.max((x1 - x0) / width, (y1 - y0) / height);
  const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
  const [dx, dy] = [scale * width / 2, scale * height / 2];
  plot.x_range.setv({start: x - dx, end: x + dx, reset_start: x - dx, reset_end: x + dx});
  plot.y_range.setv({start: y - dy, end: y + dy, reset_start: y - dy, reset_end: y + dy});
}
