// A click on a heading sorts its column: numbers start with the largest, texts with the first; gaps stay last.
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    const isNumber = head.classList.contains('number');
    const key = row => {
      const cell = row.cells[index];
      return !isNumber ? cell.textContent : 'sort' in cell.dataset ? Number(cell.dataset.sort) : null;
    };
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const now = head.getAttribute('aria-sort');
      const down = now ? now === 'ascending' : isNumber;
      heads.forEach(other => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      body.append(...[...body.rows].sort((one, two) => {
        const [a, b] = [key(one), key(two)];
        if (a === null || b === null) return (a === null) - (b === null);
        return (isNumber ? a - b : a.localeCompare(b)) * (down ? -1 : 1);
      }));
    });
  });
}
