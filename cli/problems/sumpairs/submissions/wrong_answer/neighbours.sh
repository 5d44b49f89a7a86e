# Looks at neighbours only.
read -r _ sum
read -ra numbers
pairs=0
for ((i = 1; i < ${#numbers[@]}; i++)); do
    ((numbers[i] + numbers[i - 1] == sum)) && ((pairs++))
done
echo "$pairs"
