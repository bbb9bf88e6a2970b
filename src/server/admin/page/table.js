// Tables with sorting and with rows by key: a row is built once, and its cells write only what changed.
//
// Roles are explicit, because cards on a narrow screen are no longer displayed as a table.

/** A cell of one text. */
function textCell(text) {
  return (cell) => (item) => setText(cell, text(item));
}

/** A cell of two texts, one above the other, each with a sign before or a word after it. */
function pairCell([before, after = ""], [before2, after2 = ""], first, second) {
  return (cell) => {
    const lines = [[before, after], [before2, after2]].map(([sign, word]) => {
      const value = element("span");
      const line = element("span", { class: "pair" });
      if (sign !== "") line.append(element("span", { class: "sign", "aria-hidden": "true" }, sign));
      line.append(value);
      if (word !== "") line.append(element("span", { class: "unit" }, ` ${word}`));
      cell.append(line);
      return value;
    });
    return (item) => {
      setText(lines[0], first(item));
      setText(lines[1], second(item));
    };
  };
}

/**
 * A table whose rows have keys.
 *
 * A column is `{ key, label, note, sort, number, header, build }`: `note` is for screen readers; `sort` is `"up"` or
 * `"down"`, the direction of the first click; `build(cell)` fills a cell and returns a function that shows an item.
 */
class DataTable {
  #rows = new Map();
  #buttons = new Map();
  // Rows out of sight are updated when they come into sight: the layout of a table costs more than its data.
  #sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const row = target.row;
      row.isInSight = isIntersecting;
      if (isIntersecting && row.waiting) this.#update(row, row.waiting);
    }
  }, { rootMargin: "300px" });

  constructor(table, columns, { sort = "", onSort = () => {}, sortControl = null, builders = {} } = {}) {
    Object.assign(this, { table, columns, sort, onSort, builders });
    setAttribute(table, "role", "table");
    this.body = element("tbody", { role: "rowgroup" });
    table.append(this.#head(), this.body);
    if (sortControl) this.#sortControl(sortControl);
    this.#showSort();
  }

  #head() {
    const row = element("tr", { role: "row" });
    for (const column of this.columns) {
      const cell = element("th", { scope: "col", role: "columnheader", class: this.#classes(column) });
      const words = [column.hideLabel ? hiddenText(column.label) : column.label];
      if (column.note) words.push(hiddenText(`, ${column.note}`));
      if (column.sort) {
        const button = element("button", { type: "button", class: "sort" }, ...words, element("span", { class: "arrow", "aria-hidden": "true" }));
        button.addEventListener("click", () => this.#toggle(column));
        this.#buttons.set(column.key, { cell, button });
        cell.append(button);
      } else {
        cell.append(...words);
      }
      row.append(cell);
    }
    return element("thead", { role: "rowgroup" }, row);
  }

  #classes({ key, number }) {
    return `column-${key}${number ? " number" : ""}`;
  }

  /** The same choice for cards, which have no header. */
  #sortControl(place) {
    const select = element("select");
    for (const { key, label, sort } of this.columns) if (sort) select.append(element("option", { value: key }, label));
    const direction = element("button", { type: "button" });
    select.addEventListener("change", () => this.setSort(this.columns.find(({ key }) => key === select.value).sort === "down" ? `-${select.value}` : select.value));
    direction.addEventListener("click", () => this.setSort(this.sort.startsWith("-") ? this.sort.slice(1) : `-${this.sort}`));
    place.append(element("label", {}, "Sort by ", select), direction);
    this.choice = { select, direction };
  }

  #toggle({ key, sort }) {
    const [up, down] = [key, `-${key}`];
    const first = sort === "down" ? down : up;
    this.setSort(this.sort === first ? (first === up ? down : up) : first);
  }

  setSort(sort) {
    this.setSortQuietly(sort);
    this.onSort(sort);
  }

  /** Sets the sort without telling the owner, who already knows. */
  setSortQuietly(sort) {
    this.sort = sort;
    this.#showSort();
  }

  #showSort() {
    const [key, descends] = [this.sort.replace(/^-/, ""), this.sort.startsWith("-")];
    for (const [name, { cell }] of this.#buttons) {
      if (name === key) cell.setAttribute("aria-sort", descends ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    if (this.choice) {
      this.choice.select.value = key;
      setText(this.choice.direction, descends ? "Descending" : "Ascending");
    }
  }

  #build(item) {
    const row = element("tr", { role: "row" });
    const updates = this.columns.map((column) => {
      const cell = column.header
        ? element("th", { scope: "row", role: "rowheader", class: this.#classes(column) })
        : element("td", { role: "cell", class: this.#classes(column) });
      setAttribute(cell, "data-label", column.label);
      row.append(cell);
      return column.build(cell, item);
    });
    return { node: row, update: (next) => updates.forEach((update) => update(next)) };
  }

  #update(row, item) {
    row.waiting = null;
    row.update(item);
  }

  /** Builds the row of a line, which counts as in sight until the browser says otherwise. */
  #add({ key, item, kind }) {
    const row = { waiting: null, isInSight: true, ...(kind ? this.builders[kind](item) : this.#build(item)) };
    row.node.row = row;
    this.#rows.set(key, row);
    this.#sight.observe(row.node);
    return row;
  }

  /**
   * Shows `lines`, each `{ key, item, kind }`; a kind has its builder in `builders`. While a pointer or the focus is in
   * the table its rows stay where they are, unless `force`: a click must not hit a row that has just moved. Returns
   * whether they were kept.
   */
  show(lines, force = false) {
    const keep = !force && this.#rows.size > 0 && isInUse(this.body);
    const wanted = new Map(lines.map((line) => [line.key, line]));
    if (keep) {
      for (const [key, row] of this.#rows) {
        const line = wanted.get(key);
        row.node.classList.toggle("gone", line === undefined);
        if (line && row.isInSight) this.#update(row, line.item);
        else if (line) row.waiting = line.item;
      }
      return true;
    }
    const nodes = lines.map((line) => {
      const known = this.#rows.get(line.key);
      const row = known ?? this.#add(line);
      row.node.classList.remove("gone");
      if (force || !known || row.isInSight) this.#update(row, line.item);
      else row.waiting = line.item;
      return row.node;
    });
    for (const [key, { node }] of this.#rows) {
      if (wanted.has(key)) continue;
      this.#sight.unobserve(node);
      this.#rows.delete(key);
    }
    reconcile(this.body, nodes);
    return false;
  }
}

/** The controls of a table that is shown by pages. */
class Pager {
  constructor(place, noun, { sizes, size, onChange }) {
    Object.assign(this, { page: 1, pages: 1, size, onChange });
    this.before = element("button", { type: "button" }, "Previous");
    this.after = element("button", { type: "button" }, "Next");
    this.where = element("p", { class: "where" });
    const choice = element("select", {}, ...sizes.map((each) => element("option", { value: each }, String(each))));
    choice.value = String(size);
    this.before.addEventListener("click", () => this.page > 1 && this.#go(this.page - 1));
    this.after.addEventListener("click", () => this.page < this.pages && this.#go(this.page + 1));
    choice.addEventListener("change", () => {
      this.size = Number(choice.value);
      this.#go(1);
    });
    this.choice = choice;
    place.append(this.where, this.before, this.after, element("label", {}, `${noun} on a page `, choice));
  }

  /** Sets the number of rows on a page; one that is not offered is ignored. */
  setSize(size) {
    if (![...this.choice.options].some(({ value }) => Number(value) === size)) return;
    this.size = size;
    this.choice.value = String(size);
  }

  #go(page) {
    this.page = page;
    this.onChange();
  }

  show(count, page, pages) {
    this.page = page;
    this.pages = pages;
    const first = (page - 1) * this.size + 1;
    setText(this.where, count === 0 ? "" : `${formatCount(first)}–${formatCount(Math.min(count, first + this.size - 1))} of ${formatCount(count)}`);
    // A disabled button loses the focus, so that the keyboard would start again at the top.
    for (const [button, off] of [[this.before, page <= 1], [this.after, page >= pages]]) setAttribute(button, "aria-disabled", off);
  }
}
