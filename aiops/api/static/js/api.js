// The one door to the server. The token lives in this tab only and is never part of an address.

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `HTTP ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
  }
}

const headers = (extra = {}) => {
  const token = sessionStorage.getItem("aiops.token");
  return token ? { Authorization: `Bearer ${token}`, ...extra } : extra;
};

/** Keep or forget the token of this tab. */
export function remember(token) {
  if (token) sessionStorage.setItem("aiops.token", token);
  else sessionStorage.removeItem("aiops.token");
}

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, body);
  return body;
}

/** JSON of a read route; throws ApiError. */
export async function get(path) {
  return answer(await fetch(`/api/v1/${path}`, { headers: headers() }));
}

/** As `get`, but what the server cannot say now (503) or does not have (404) is `otherwise`. */
export async function tryGet(path, otherwise = null) {
  try {
    return await get(path);
  } catch (error) {
    if (error instanceof ApiError && [404, 503].includes(error.status)) return otherwise;
    throw error;
  }
}

/** Give an order; the key makes a repeated click one order. */
export async function order(body, key) {
  const extra = { "Content-Type": "application/json", "X-Aiops-Request": "1", "Idempotency-Key": key };
  return answer(await fetch("/api/v1/orders", { method: "POST", headers: headers(extra), body: JSON.stringify(body) }));
}

/** Call `changed` whenever the server says that something is new; returns when the stream ends. */
export async function listen(changed, signal) {
  const response = await fetch("/api/v1/events", { headers: headers(), signal });
  if (!response.ok || !response.body || response.status === 204) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    if (value.includes("event: changed")) changed();
  }
}
