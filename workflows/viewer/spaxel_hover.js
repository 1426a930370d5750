// What a tooltip says of the spaxel under the pointer: its value as the table writes it, in words where there is none
// (Bokeh itself would write NaN); its row or column; or its place on the sky.
if (format === "value") {
  const [image, x0, y0, dw, dh] = ["image", "x", "y", "dw", "dh"].map((name) => source.data[name][0]);
  const [ny, nx] = image.shape;
  const [column, row] = [(special_vars.x - x0) / dw * nx, (special_vars.y - y0) / dh * ny].map(Math.floor);
  const found = column >= 0 && column < nx && row >= 0 && row < ny ? image[row * nx + column] : NaN;
  const size = Math.abs(found);
  const text = !Number.isFinite(found) ? "no value"
    : size === 0 ? "0"
    : size >= 1000 && size < 1e7 ? Math.round(found).toLocaleString("en-US")
    : size >= 1e-3 && size < 1000 ? String(Number(found.toPrecision(4)))
    : found.toExponential(2).replace("e+", "e");
  return text.replaceAll("-", "−");
}
if (format !== "sky") { return `${Math.round(value)}`; }
// Off the middle of the image along its axes, in the tangential plane.
const radian = Math.PI / 180;
const [dx, dy] = [Math.round(special_vars.x) - sky.x, Math.round(special_vars.y) - sky.y];
const xi = (sky.matrix[0] * dx + sky.matrix[1] * dy) * radian, eta = (sky.matrix[2] * dx + sky.matrix[3] * dy) * radian;
const dec0 = sky.dec * radian;
const below = Math.cos(dec0) - eta * Math.sin(dec0);
const ra = sky.ra + Math.atan2(xi, below) / radian;
const dec = Math.atan2(Math.sin(dec0) + eta * Math.cos(dec0), Math.hypot(xi, below)) / radian;
return `${(((ra % 360) + 360) % 360).toFixed(5)}°, ${dec < 0 ? "−" : "+"}${Math.abs(dec).toFixed(5)}°`;
