use std::collections::HashSet;
use std::io::{self, Read};

fn main() {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).unwrap();
    let mut numbers = text.split_whitespace().map(|word| word.parse::<i64>().unwrap());
    let (_, sum) = (numbers.next(), numbers.next().unwrap());
    let mut seen = HashSet::new();
    let mut pairs = 0;
    for number in numbers {
        pairs += seen.contains(&(sum - number)) as u32;
        seen.insert(number);
    }
    println!("{pairs}");
}
