// Reads zip archives in the browser. What an archive says of its sizes is not believed.

const endRecord = 0x06054b50;
const centralRecord = 0x02014b50;
const localRecord = 0x04034b50;
const entryLimit = 20_000;

/** The largest sum of unpacked bytes. */
export const sizeLimit = 4 * 1024 ** 3 - 1;

/**
 * The files of an archive as `{ path, size, blob() }`; nothing is unpacked yet.
 * @param {Blob} archive
 */
export async function entries(archive) {
  const tail = new DataView(await archive.slice(Math.max(0, archive.size - 65_557)).arrayBuffer());
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== endRecord) end -= 1;
  if (end < 0) throw new Error("This is no zip archive");
  const number = tail.getUint16(end + 10, true);
  const length = tail.getUint32(end + 12, true);
  const offset = tail.getUint32(end + 16, true);
  if (number > entryLimit) throw new Error(`The archive has more than ${entryLimit} files`);
  if (offset === 0xffffffff || offset + length > archive.size) throw new Error("The archive is damaged, or larger than 4 GiB");
  const directory = new DataView(await archive.slice(offset, offset + length).arrayBuffer());
  const files = [];
  let total = 0;
  for (let at = 0, i = 0; i < number; i += 1) {
    if (at + 46 > directory.byteLength || directory.getUint32(at, true) !== centralRecord) throw new Error("The archive is damaged");
    const flags = directory.getUint16(at + 8, true);
    const method = directory.getUint16(at + 10, true);
    const packed = directory.getUint32(at + 20, true);
    const size = directory.getUint32(at + 24, true);
    const nameLength = directory.getUint16(at + 28, true);
    const local = directory.getUint32(at + 42, true);
    const next = at + 46 + nameLength + directory.getUint16(at + 30, true) + directory.getUint16(at + 32, true);
    if (next > directory.byteLength) throw new Error("The archive is damaged");
    const path = new TextDecoder().decode(new Uint8Array(directory.buffer, at + 46, nameLength));
    at = next;
    if (path.endsWith("/")) continue;
    total += size;
    if (total > sizeLimit) throw new Error("The archive would unpack to more than 4 GiB");
    files.push({ path, size, blob: () => unpack(archive, { path, flags, method, packed, size, local }) });
  }
  return files;
}

async function unpack(archive, { path, flags, method, packed, size, local }) {
  if (flags & 1) throw new Error(`${path} is encrypted`);
  if (method !== 0 && method !== 8) throw new Error(`${path} is packed by a method other than deflate`);
  const head = new DataView(await archive.slice(local, local + 30).arrayBuffer());
  if (head.byteLength < 30 || head.getUint32(0, true) !== localRecord) throw new Error("The archive is damaged");
  const begin = local + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  if (begin + packed > archive.size) throw new Error("The archive is damaged");
  const data = archive.slice(begin, begin + packed);
  if (method === 0) {
    if (packed !== size) throw new Error(`${path} is damaged`);
    return data;
  }
  let length = 0;
  const checked = new TransformStream({
    transform(chunk, controller) {
      length += chunk.length;
      if (length > size) controller.error(new Error(`${path} is longer than the archive says`));
      else controller.enqueue(chunk);
    },
  });
  const stream = data.stream().pipeThrough(new DecompressionStream("deflate-raw")).pipeThrough(checked);
  let blob;
  try {
    blob = await new Response(stream).blob();
  } catch {
    throw new Error(`${path} cannot be unpacked`);
  }
  if (blob.size !== size) throw new Error(`${path} is shorter than the archive says`);
  return blob;
}
