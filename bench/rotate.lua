-- For wrk, `-- FILE`: sends the tokens of a file in turn; each line is one token.
local tokens, at = {}, 0

function init(args)
  for line in io.lines(args[1]) do
    tokens[#tokens + 1] = line
  end
end

function request()
  at = at % #tokens + 1
  return "GET /auth HTTP/1.1\r\nHost: gatecar\r\nAuthorization: Bearer " .. tokens[at] .. "\r\n\r\n"
end
