// Node: a compiler that makes code while the program runs. Objects, closures, typed arrays, strings, a sort.
'use strict';
let state = 12345;
const random = () => (state = (Math.imul(state, 1103515245) + 12345) >>> 0);
class Shape { constructor(a) { this.a = a; } area() { return this.a; } }
class Square extends Shape { area() { return this.a * this.a; } }
class Circle extends Shape { area() { return 3 * this.a * this.a; } }
const shapes = Array.from({ length: 3000 }, (_, i) => new [Shape, Square, Circle][i % 3](i % 100));
let sum = 0;
for (let r = 0; r < 300; r++)
	for (const s of shapes)
		sum = (sum + s.area()) % 1000000007;
const field = new Float64Array(65536).map((_, i) => i);
for (let r = 0; r < 60; r++)
	for (let i = 1; i < field.length - 1; i++)
		field[i] = (field[i - 1] + field[i] + field[i + 1]) / 3;
const words = new Map();
for (let i = 0; i < 150000; i++) {
	const w = 'w' + random() % 5003;
	words.set(w, (words.get(w) || 0) + 1);
}
const sorted = [...words.entries()].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 5);
const parsed = JSON.parse(JSON.stringify([...words.entries()])).length;
console.log(sum, field[1000], sorted.join(' '), parsed);
