_, sum = gets.split.map(&:to_i)
seen = {}
pairs = 0
gets.split.map(&:to_i).each do |number|
  pairs += 1 if seen[sum - number]
  seen[number] = true
end
puts pairs
