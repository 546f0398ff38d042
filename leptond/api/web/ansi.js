// Terminal output as lines of styled pieces: colours (SGR), carriage returns that overwrite; every other
// escape is dropped. Pure, and incremental: a chunk may end anywhere.

// eslint-disable-next-line no-control-regex
const ESCAPE = /^\u001b(?:\[([0-9;:?<=>]*)[ -/]*([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\^_])/;
const UNFINISHED = /^\u001b(?:\[[0-9;:?<=>]{0,256}[ -/]{0,16}|\][^\u0007\u001b]{0,4096}\u001b?)?$/;
const LONGEST = 8192;  // characters of a line that are shown

export class Terminal {
  constructor(maxLines = 20000) {
    this.maxLines = maxLines;
    this.lines = [];       // arrays of {text, cls}
    this.dropped = 0;      // lines that fell off the top
    this.style = "";
    this.rest = "";
    this.current = [];
    this.width = 0;        // characters of the current line
    this.over = false;     // the next text draws over the line
    this.open = false;     // whether lines' last entry is the line being written
  }

  write(text) {
    let at = 0;
    const all = this.rest + text;
    this.rest = "";
    while (at < all.length) {
      const code = all.charCodeAt(at);
      if (code === 10) { this.endLine(); at += 1; }
      else if (code === 13) {
        if (at + 1 >= all.length) { this.rest = all.slice(at); break; }
        if (all.charCodeAt(at + 1) !== 10) this.over = true;
        at += 1;
      } else if (code === 27) {
        const match = ESCAPE.exec(all.slice(at, at + 4200));
        if (match) { if (match[2] === "m") this.select(match[1]); at += match[0].length; }
        else if (all.length - at < 4200 && UNFINISHED.test(all.slice(at))) { this.rest = all.slice(at); break; }
        else at += 1;
      } else {
        let end = at + 1;
        while (end < all.length && ![10, 13, 27].includes(all.charCodeAt(end))) end += 1;
        this.put(all.slice(at, end));
        at = end;
      }
    }
    this.show();
  }

  put(text) {
    const shown = text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g, "");
    if (!shown) return;
    if (this.over) { this.current = []; this.width = 0; this.over = false; }
    const room = shown.slice(0, LONGEST - this.width);
    if (!room) return;
    this.width += room.length;
    const last = this.current[this.current.length - 1];
    if (last && last.cls === this.style) last.text += room;
    else this.current.push({ text: room, cls: this.style });
  }

  show() {
    if (this.open) this.lines[this.lines.length - 1] = this.current;
    else if (this.current.length) { this.lines.push(this.current); this.open = true; }
    const excess = this.lines.length - this.maxLines;
    if (excess > 0) { this.lines.splice(0, excess); this.dropped += excess; }
  }

  endLine() {
    if (this.open) this.lines[this.lines.length - 1] = this.current;
    else this.lines.push(this.current);
    this.open = this.over = false;
    this.current = [];
    this.width = 0;
  }

  /** A line of ours between the job's own. */
  note(text) {
    if (this.current.length) this.endLine();
    this.lines.push([{ text, cls: "a-note" }]);
    this.open = false;
  }

  select(codes) {
    const set = new Set(this.style ? this.style.split(" ") : []);
    const drop = (prefix) => { for (const one of [...set]) if (one.startsWith(prefix)) set.delete(one); };
    const numbers = (codes || "0").split(/[;:]/).map(Number);
    for (let i = 0; i < numbers.length; i += 1) {
      const n = numbers[i];
      if (n === 0) set.clear();
      else if (n === 1) set.add("a-bold");
      else if (n === 2) set.add("a-dim");
      else if (n === 3) set.add("a-italic");
      else if (n === 4) set.add("a-under");
      else if (n === 22) { set.delete("a-bold"); set.delete("a-dim"); }
      else if (n === 23) set.delete("a-italic");
      else if (n === 24) set.delete("a-under");
      else if ((n >= 30 && n <= 37) || (n >= 90 && n <= 97)) { drop("a-fg"); set.add(`a-fg${n >= 90 ? n - 82 : n - 30}`); }
      else if (n === 39) drop("a-fg");
      else if (n === 38 || n === 48) {
        const skip = numbers[i + 1] === 5 ? 2 : numbers[i + 1] === 2 ? 4 : 0;
        if (n === 38 && skip === 2 && numbers[i + 2] < 16) { drop("a-fg"); set.add(`a-fg${numbers[i + 2]}`); }
        i += skip;
      }
    }
    this.style = [...set].join(" ");
  }
}

export const plain = (line) => line.map((piece) => piece.text).join("");
