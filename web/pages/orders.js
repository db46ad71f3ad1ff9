// The desk's orders: close a room, open it, slow mode. They go to the admin API, which wants a token.

/** The token is kept until the tab is closed. */
const TOKEN = "uproar-admin-token";

const part = id => document.getElementById(id);

/** Shows the orders of the chosen room. Gives what to call with its name whenever another one is chosen. */
export function makeOrders() {
  let room = "";

  const token = () => sessionStorage.getItem(TOKEN) || "";

  function say(text, isWrong) {
    part("order-said").textContent = text;
    part("order-said").classList.toggle("wrong", Boolean(isWrong));
  }

  function show() {
    part("orders").hidden = !room;
    part("unlock").hidden = Boolean(token());
    part("order-buttons").hidden = !token();
  }

  /** Asks the API. Gives its answer, or null after it has said why there is none. */
  async function ask(method, body) {
    let answer;
    const headers = { Authorization: "Bearer " + token(), "Content-Type": "application/json" };
    try {
      answer = await fetch("/admin/v1/rooms/" + encodeURIComponent(room), { method, headers, body });
    } catch (error) {
      say("This process does not answer.", true);
      return null;
    }
    if (answer.ok) return answer.json();
    const problem = await answer.json().catch(() => ({}));
    if (answer.status === 401) sessionStorage.removeItem(TOKEN);
    // Nothing is ordered of most rooms.
    if (method !== "GET" || answer.status !== 404 || /admin API/.test(problem.detail)) {
      say(problem.detail || "refused: " + answer.status, true);
    }
    show();
    return null;
  }

  function tell(order) {
    part("slow").value = order && order.post_ms ? String(order.post_ms) : "";
    part("close-room").disabled = Boolean(order) && order.state === "closed";
    part("open-room").disabled = !order || order.state !== "closed";
  }

  async function look() {
    if (!room || !token()) return;
    const asked = room;
    const order = await ask("GET");
    if (asked === room) tell(order);
  }

  async function order(change, said) {
    const asked = room;
    say("…");
    const answer = await ask("PUT", JSON.stringify(change));
    if (!answer || asked !== room) return;
    tell(answer);
    say(said);
  }

  part("close-room").addEventListener("click", () => order({ state: "closed" }, "Closed."));
  part("open-room").addEventListener("click", () => order({ state: "open" }, "Open."));
  part("slow").addEventListener("change", event => {
    const ms = Number(event.target.value) || null;
    order({ post_ms: ms }, ms ? "Slow mode: new viewers post every " + ms / 1000 + " s." : "Slow mode is off.");
  });
  part("unlock").addEventListener("submit", event => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, part("token").value.trim());
    part("token").value = "";
    say("");
    show();
    look();
  });
  part("lock").addEventListener("click", () => {
    sessionStorage.removeItem(TOKEN);
    say("");
    show();
  });

  return name => {
    if (name === room) return;
    room = name;
    say("");
    tell(null);
    show();
    look();
  };
}
