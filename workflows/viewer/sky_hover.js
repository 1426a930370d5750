// Right ascension and declination of a pixel: off the middle of the image along its axes, in the tangential plane.
if (format !== "sky") { return `${Math.round(value)}`; }
const radian = Math.PI / 180;
const [dx, dy] = [Math.round(special_vars.x) - sky.x, Math.round(special_vars.y) - sky.y];
const xi = (sky.matrix[0] * dx + sky.matrix[1] * dy) * radian, eta = (sky.matrix[2] * dx + sky.matrix[3] * dy) * radian;
const dec0 = sky.dec * radian;
const below = Math.cos(dec0) - eta * Math.sin(dec0);
const ra = sky.ra + Math.atan2(xi, below) / radian;
const dec = Math.atan2(Math.sin(dec0) + eta * Math.cos(dec0), Math.hypot(xi, below)) / radian;
return `${(((ra % 360) + 360) % 360).toFixed(5)}°, ${dec < 0 ? "−" : "+"}${Math.abs(dec).toFixed(5)}°`;
