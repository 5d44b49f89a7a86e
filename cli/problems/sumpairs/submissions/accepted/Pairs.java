import java.io.*;
import java.util.*;

public class Pairs {
    public static void main(String[] args) throws IOException {
        StreamTokenizer input = new StreamTokenizer(new BufferedReader(new InputStreamReader(System.in)));
        input.nextToken();
        int n = (int) input.nval;
        input.nextToken();
        long sum = (long) input.nval, pairs = 0;
        Set<Long> seen = new HashSet<>();
        while (n-- > 0) {
            input.nextToken();
            long number = (long) input.nval;
            if (seen.contains(sum - number)) pairs++;
            seen.add(number);
        }
        System.out.println(pairs);
    }
}
