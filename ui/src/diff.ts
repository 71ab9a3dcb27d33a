// Which words of two texts differ: the longest common subsequence of their words.
const MOST = 4_000_000;

export interface Word { text: string; differs: boolean }

function words(text: string): string[] {
  return text.match(/\s+|\w+|[^\w\s]/g) ?? [];
}

/** Returns both texts as words that are marked where they differ, or null if the texts are too long to compare. */
export function compareTexts(first: string, second: string): [Word[], Word[]] | null {
  const a = words(first), b = words(second);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const n = a.length - start - end, m = b.length - start - end;
  if (n * m > MOST) return null;
  const width = m + 1;
  const table = new Uint32Array((n + 1) * width);
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      table[i * width + j] = a[start + i] === b[start + j]
        ? table[(i + 1) * width + j + 1]! + 1
        : Math.max(table[(i + 1) * width + j]!, table[i * width + j + 1]!);
    }
  }
  const isCommonA = new Uint8Array(a.length).fill(1), isCommonB = new Uint8Array(b.length).fill(1);
  isCommonA.fill(0, start, start + n);
  isCommonB.fill(0, start, start + m);
  for (let i = 0, j = 0; i < n && j < m;) {
    if (a[start + i] === b[start + j]) {
      isCommonA[start + i++] = 1;
      isCommonB[start + j++] = 1;
    } else if (table[(i + 1) * width + j]! >= table[i * width + j + 1]!) i++;
    else j++;
  }
  return [join(a, isCommonA), join(b, isCommonB)];
}

function join(parts: string[], isCommon: Uint8Array): Word[] {
  const found: Word[] = [];
  parts.forEach((text, index) => {
    const differs = !isCommon[index];
    const last = found[found.length - 1];
    if (last && last.differs === differs) last.text += text;
    else found.push({ text, differs });
  });
  return found;
}
