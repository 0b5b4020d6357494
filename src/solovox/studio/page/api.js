// The server's API: requests, uploads with progress, and news as they come.

export class ApiError extends Error {}

async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new ApiError('The studio does not answer. Is it still running?');
  }
  if (answer.ok) return answer;
  let detail = answer.statusText;
  try {
    const said = (await answer.json()).detail;
    detail = typeof said === 'string' ? said : said?.[0]?.msg ?? detail;
  } catch { /* not JSON: the status has to do */ }
  throw new ApiError(detail);
}

export async function json(path, method = 'GET', body) {
  const answer = await request(path, {
    method,
    headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return answer.status === 204 ? null : answer.json();
}

export async function binary(path, signal) {
  return (await request(path, { signal })).arrayBuffer();
}

/** A picture of solovox.studio.pictures: {columns, rows, seconds, data}. */
export async function picture(song, track, kind) {
  const bytes = await binary(`/api/songs/${song}/tracks/${track}/${kind}`);
  const head = new DataView(bytes);
  return {
    columns: head.getUint32(0, true),
    rows: head.getUint32(4, true),
    seconds: head.getFloat64(8, true),
    data: new Uint8Array(bytes, 16),
  };
}

/** Upload a file; resolves to the song. `told` hears the share that is sent. */
export function upload(file, knobs, told, signal) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    const asked = new URLSearchParams({ ...knobs, name: file.name.slice(-200) });
    sending.open('POST', `/api/songs?${asked}`);
    sending.setRequestHeader('Content-Type', 'application/octet-stream');
    sending.upload.onprogress = (event) => told(event.loaded / Math.max(1, event.total));
    sending.onload = () => {
      let said = {};
      try { said = JSON.parse(sending.responseText); } catch { /* told below */ }
      if (sending.status === 201) resolve(said);
      else reject(new ApiError(typeof said.detail === 'string' ? said.detail : 'cannot be sent'));
    };
    sending.onerror = () => reject(new ApiError('The studio does not answer.'));
    sending.onabort = () => reject(new ApiError('stopped'));
    signal?.addEventListener('abort', () => sending.abort());
    sending.send(file);
  });
}

/** Listen to news for ever; `on` has songs, song, removed, queue and connected. */
export function listen(on) {
  const source = new EventSource('/api/events');
  for (const kind of ['songs', 'song', 'removed', 'queue']) {
    source.addEventListener(kind, (event) => on[kind](JSON.parse(event.data)));
  }
  source.onopen = () => on.connected(true);
  source.onerror = () => {
    on.connected(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(on), 2000);
  };
}
