-- Calls the redaction of the Fluent Bit sidecar as Fluent Bit's lua filter does, once a line of standard input.
-- usage: luajit fluent_bit.lua REDACT.LUA < LINES
local json = require("cjson")
json.encode_empty_table_as_object = json.encode_empty_table_as_object or function() end
dofile(arg[1])
for line in io.lines() do
    local parsed, record = pcall(json.decode, line)
    -- What the parser refuses comes as { log = TEXT }; null members are left out of the table that the filter gets.
    if not parsed or type(record) ~= "table" or record[1] ~= nil then
        record = { log = line }
    end
    local function without_null(value)
        for key, member in pairs(value) do
            if member == json.null then
                value[key] = nil
            elseif type(member) == "table" then
                without_null(member)
            end
        end
    end
    without_null(record)
    local code, _, out = redact("audit", 1763674478.5, record)
    assert(code == 2)
    print(json.encode(out))
end
