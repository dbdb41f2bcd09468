new EventSource("events").onmessage = (event) => {
  document.getElementById("runs").textContent = JSON.stringify(JSON.parse(event.data), null, 1);
};
