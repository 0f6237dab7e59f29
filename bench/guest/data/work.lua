-- LuaJIT: a tracing compiler. Arrays of doubles, tables, bits, strings.
local ffi, bit = require "ffi", require "bit"
local a = ffi.new("double[?]", 4096)
for r = 1, 3000 do
	for i = 1, 4094 do a[i] = (a[i - 1] + a[i] + a[i + 1] + i) * 0.25 end
end
local t, h = {}, 0
for i = 1, 8000000 do h = bit.bxor(bit.rol(h, 5), i * 3) end
for i = 1, 1500000 do t[i % 997 + 1] = (t[i % 997 + 1] or 0) + i % 17 end
local parts = {}
for i = 1, 60000 do parts[#parts + 1] = tostring(i * 7919 % 10007) end
local u = 0
for _, v in ipairs(t) do u = (u * 31 + v) % 1000003 end
print(string.format("%.9f %d %d %d", a[100], h, u, #table.concat(parts, ",")))
