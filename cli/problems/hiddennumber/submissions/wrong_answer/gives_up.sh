# Asks once.
echo 500
read -r answer
