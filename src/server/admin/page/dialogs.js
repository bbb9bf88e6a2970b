// The dialog that confirms an action: drain, undrain, close a WebSocket, reload.

let confirmed = null;

/**
 * Asks before an action. `act` runs after the confirmation; the dialog stays open with the error if it fails. With
 * `closeFrame` the dialog has fields for a code and a reason, which `act` receives.
 */
function confirmAction({ title, text, action, closeFrame = false, act }) {
  confirmed = { act, closeFrame };
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-act"), action);
  setText(byId("confirm-error"), "");
  byId("confirm-fields").hidden = !closeFrame;
  byId("close-code").disabled = byId("close-reason").disabled = !closeFrame;
  byId("close-code").value = "1012";
  byId("close-reason").value = "";
  showCloseCodeName();
  byId("confirm").showModal();
  (closeFrame ? byId("close-code") : byId("confirm-cancel")).focus();
}

function showCloseCodeName() {
  setText(byId("close-code-name"), closeCodeName(byId("close-code").value));
}

function startDialogs() {
  const dialog = byId("confirm");
  byId("close-code").addEventListener("input", showCloseCodeName);
  byId("confirm-cancel").addEventListener("click", () => dialog.close());
  byId("confirm-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = byId("confirm-act");
    const { act, closeFrame } = confirmed;
    if (new TextEncoder().encode(byId("close-reason").value).length > 123) {
      setText(byId("confirm-error"), "A reason has at most 123 bytes.");
      return;
    }
    button.disabled = true;
    try {
      await act(closeFrame ? { code: byId("close-code").value, reason: byId("close-reason").value } : undefined);
      dialog.close();
    } catch (error) {
      setText(byId("confirm-error"), explainError(error));
    } finally {
      button.disabled = false;
    }
  });
  byId("toast-dismiss").addEventListener("click", hideToast);
}

function confirmDrain(row) {
  confirmAction({
    title: `Drain ${row.endpoint}?`,
    text: `The endpoint of ${row.upstream} takes no new clients. ${plural(row.websockets, "WebSocket")} will be closed with 1012, spread over drain_window.`,
    action: "Drain",
    act: async () => {
      await request("POST", `${endpointPath(row.upstream, row.endpoint)}/drain`);
      notify(`${row.endpoint} of ${row.upstream} drains.`);
    },
  });
}

function confirmUndrain(row) {
  confirmAction({
    title: `Undrain ${row.endpoint}?`,
    text: `The endpoint of ${row.upstream} takes new clients again. WebSockets that are still open stay.`,
    action: "Undrain",
    act: async () => {
      await request("POST", `${endpointPath(row.upstream, row.endpoint)}/undrain`);
      notify(`${row.endpoint} of ${row.upstream} takes new clients again.`);
    },
  });
}
