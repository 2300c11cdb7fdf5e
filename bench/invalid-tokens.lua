-- For wrk: sends a new invalid token with each request.
--   -- opaque                  a random text that is not a JWT
--   -- forged HEAD SIGNATURE   a JWT with 20 random characters in its signature
local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
local before, after = "", ""

local function letters(count)
  local made = {}
  for at = 1, count do
    local index = math.random(64)
    made[at] = alphabet:sub(index, index)
  end
  return table.concat(made)
end

function init(args)
  math.randomseed(os.time())
  if args[1] == "forged" then
    -- The beginning stays: a number above the key's modulus is rejected before any arithmetic.
    before = args[2] .. "." .. args[3]:sub(1, 100)
    after = args[3]:sub(121)
  end
end

function request()
  return wrk.format("GET", nil, { Authorization = "Bearer " .. before .. letters(20) .. after })
end
