// Save the file that the server put into the source.
const [name, kind, content] = [source.data.name[0], source.data.kind[0], source.data.content[0]];
if (content) {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const address = URL.createObjectURL(new Blob([bytes], {type: kind}));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
