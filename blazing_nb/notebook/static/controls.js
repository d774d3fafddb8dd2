// Controls. Python says what would be done; what takes work away is asked for, here, before it is sent for good.
KINDS.controls = (panel, box, view) => {
  const bar = add(box, "div", "bz-controls");
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", "controls");
  const count = add(bar, "input", "bz-field");
  count.type = "number";
  count.min = 0;
  count.max = 64;
  count.setAttribute("aria-label", "number of workers");
  button("workers", "workers", "scale the workers on this machine", () => count.value);
  const step = add(bar, "select", "bz-select");
  step.setAttribute("aria-label", "step that the controls are for");
  button("pause", "pause", "let nobody claim the step", () => step.value);
  button("resume", "resume", "let the step be claimed again", () => step.value);
  button("retry", "retry failed", "enqueue what failed anew", () => step.value);
  button("cancel", "cancel", "cancel what is not finished", () => step.value);
  const fault = add(bar, "select", "bz-select");
  fault.setAttribute("aria-label", "fault to cause");
  const breaks = button("faults", "break it", "cause the fault while the lab's own operations run", () => fault.value);
  const said = add(bar, "output", "bz-muted");
  said.setAttribute("aria-live", "polite");
  const ask = add(box, "div", "bz-ask");
  ask.setAttribute("role", "alertdialog");
  ask.hidden = true;
  const question = add(ask, "span"), yes = add(ask, "button", "bz-button", "yes, do it"), no = add(ask, "button", "bz-button", "no");
  let pending = null, steps = null, known = null;

  function button(verb, text, label, value) {
    const made = add(bar, "button", "bz-button", text);
    made.type = "button";
    made.title = label;
    made.setAttribute("aria-label", text + ": " + label);
    made.dataset.verb = verb;
    made.onclick = () => { ask.hidden = true; view.ask({ type: "do", verb, value: value(), sure: false }); };
    return made;
  }
  yes.onclick = () => { ask.hidden = true; view.ask({ type: "do", verb: pending.verb, value: pending.value, sure: true }); };
  no.onclick = () => { ask.hidden = true; said.textContent = "nothing was done"; };
  ask.onkeydown = (event) => { if (event.key === "Escape") no.onclick(); };

  return {
    put(news) {
      if (known !== news.workers && document.activeElement !== count) count.value = known = news.workers;
      fault.hidden = breaks.hidden = !news.faults.length;
      if (fault.length !== news.faults.length) fault.replaceChildren(...news.faults.map((name) => new Option(name, name)));
      if (steps === news.steps.join()) return;
      steps = news.steps.join();
      const chosen = step.value;
      step.replaceChildren();
      add(step, "option", "", "all steps").value = "";
      news.steps.forEach((name) => (add(step, "option", "", name).value = name));
      step.value = chosen;
    },
    draw() {},
    answer(message) {
      said.textContent = message.said ?? "";
      if (!message.ask) return;
      pending = message;
      question.textContent = message.ask;
      ask.setAttribute("aria-label", message.ask);
      ask.hidden = false;
      no.focus(); // what destroys is never one key away
    },
  };
};
