// Chances: which journey, which thing. Some things are asked for far more often than others, as everywhere.

// One of `[weight, value]`.
export function weighted(choices) {
  const total = choices.reduce((sum, [weight]) => sum + weight, 0);
  let point = Math.random() * total;
  for (const [weight, value] of choices) {
    point -= weight;
    if (point < 0) return value;
  }
  return choices[choices.length - 1][1];
}

export function chance(of) {
  return Math.random() < of;
}

export function always() {
  return true;
}

export function one(list) {
  return list[Math.floor(Math.random() * list.length)];
}

// A number below `count`; half of the draws are of the first eighth.
export function popular(count) {
  return Math.floor(count * Math.random() ** 3);
}

// What `tollgate backend seed` calls the thing with this number. Families: 8000 users, products and workflows; 8001 media.
export function seeded(number, family = '8000') {
  return `00000000-0000-7000-${family}-${number.toString(16).padStart(12, '0')}`;
}
