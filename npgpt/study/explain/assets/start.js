// The last module: it starts the page. A test of the others leaves it out.

const page = new Page(JSON.parse(document.getElementById("data").textContent));
